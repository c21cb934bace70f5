"""The description of a run, from its recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tnn_edge.nn.checkpoint import RunDescription
from train.recipe import Recipe

__all__ = ["describe"]


def describe(recipe: Recipe, labels: Sequence[str], training: Mapping[str, Any]) -> RunDescription:
    """What `tnn_edge.nn.checkpoint` stores of a recipe and the data it met.

    Args:
        recipe: the recipe.
        labels: class names of the data.
        training: what happened, for the record.
    """
    return RunDescription(
        name=recipe.name,
        architecture=recipe.network.architecture,
        sizes=recipe.network.sizes,
        labels=labels,
        image_size=recipe.data.image_size,
        mean=recipe.data.mean,
        std=recipe.data.std,
        statistics=recipe.throttle.statistics,
        recipe=recipe.model_dump(mode="json"),
        training=training,
        short_side=recipe.data.short_side,
    )
