"""The description of a run, from its recipe."""

from __future__ import annotations

from typing import Any

from tnn_edge.nn.checkpoint import RunDescription
from tnn_edge.nn.dataset import ImageSet
from train.recipe import Recipe

__all__ = ["describe"]


def describe(recipe: Recipe, data: ImageSet, training: dict[str, Any]) -> RunDescription:
    """What `tnn_edge.nn.checkpoint` stores of a recipe and the data it met.

    Args:
        recipe: the recipe.
        data: gives the class names.
        training: what happened, for the record.
    """
    return RunDescription(
        name=recipe.name,
        architecture=recipe.network.architecture,
        sizes=recipe.network.sizes,
        labels=data.labels,
        image_size=recipe.data.image_size,
        mean=recipe.data.mean,
        std=recipe.data.std,
        statistics=recipe.throttle.statistics,
        recipe=recipe.model_dump(mode="json"),
        training=training,
    )
