"""A run that nobody trained here: the weights that a training would start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import holds_run, write_checkpoint, write_run, write_statistics_table
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.weights import NO_WEIGHTS
from train.description import describe
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.recipe import Recipe
from train.start import check_classes, class_names, load_start_weights, random_network

__all__ = ["write_untrained"]

_N_NOISE = 64


def write_untrained(recipe: Recipe, run: Path, data: ImageSet | ImageTree | None = None) -> str:
    """Write a run with the recipe's weights, or random ones, for a network that is to be timed or tried.

    Random weights get random normalisation too: with that of a fresh network every branch would be zero.

    Args:
        recipe: the recipe.
        run: the folder to write.
        data: gives the class names and, where the recipe asks for them, the images over which the statistics of each
            point are measured; None: the classes of the weights, where they are known, and noise. Statistics of u = 1
            stay those of the weights.

    Returns:
        What the weights are.

    Raises:
        RunError: `run` already holds a run; there is no such network, or no such weights.
        DatasetError: the data has another number of classes.
    """
    if holds_run(run):
        raise RunError(f"{run} already holds a run; choose another --out")
    generator = torch.Generator().manual_seed(recipe.seed)
    network = random_network(recipe)
    load_start_weights(network, recipe)
    start = f"weights {recipe.network.weights}"
    if recipe.network.weights == NO_WEIGHTS:
        start = "random weights"
        for norm in (module for module in network.modules() if isinstance(module, BatchNorm)):
            norm.weight.data.uniform_(0.2, 0.6, generator=generator)
            norm.bias.data.uniform_(-0.2, 0.2, generator=generator)
    images = data
    if images is None:
        images = _noise(class_names(recipe, network.n_classes), recipe.data.image_size, generator)
    check_classes(network, images.labels)
    write_checkpoint(run, network, extra={"generator": generator.get_state()}, progress={"epochs": 0})
    if recipe.throttle.statistics == "per_point":
        write_statistics_table(run, measure_table(network, images, recipe))
    record = {"data": f"none: {start}", "weights": recipe.network.weights, **describe_machine()}
    record["untrained"] = "without images" if data is None else "with images"
    write_run(run, describe(recipe, images.labels, record))
    return start


def _noise(labels: Sequence[str], size: int, generator: torch.Generator) -> ImageSet:
    return ImageSet(
        images=torch.randint(0, 256, (_N_NOISE, 3, size, size), dtype=torch.uint8, generator=generator),
        targets=torch.arange(_N_NOISE) % len(labels),
        labels=tuple(labels),
        names=tuple(f"noise/{i}" for i in range(_N_NOISE)),
    )
