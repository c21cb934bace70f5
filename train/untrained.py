"""A run that nobody trained here: the weights that a training would start from."""

from __future__ import annotations

from pathlib import Path

import torch

from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import write_checkpoint, write_run, write_statistics_table
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.weights import NO_WEIGHTS
from train.description import describe
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.recipe import Recipe
from train.start import load_start_weights, random_network

__all__ = ["write_untrained"]


def write_untrained(recipe: Recipe, run: Path, n_images: int = 64) -> str:
    """Write a run with the recipe's weights, or random ones, for a network that is to be timed or tried.

    Random weights get random normalisation too: with that of a fresh network every branch would be zero. Statistics of
    each point, where the recipe asks for them, are measured on noise; those of u = 1 stay those of the weights.

    Returns:
        What the weights are.

    Raises:
        RunError: `run` already holds a run; there is no such network, or no such weights.
    """
    if (run / "run.json").exists():
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
    size, n_classes = recipe.data.image_size, network.n_classes
    noise = ImageSet(
        images=torch.randint(0, 256, (n_images, 3, size, size), dtype=torch.uint8, generator=generator),
        targets=torch.arange(n_images) % n_classes,
        labels=tuple(f"class {i}" for i in range(n_classes)),
        names=tuple(f"noise/{i}" for i in range(n_images)),
    )
    write_checkpoint(run, network, extra={"generator": generator.get_state()}, progress={"epochs": 0})
    if recipe.throttle.statistics == "per_point":
        write_statistics_table(run, measure_table(network, noise, recipe))
    record = {"data": f"none: {start}", "weights": recipe.network.weights, **describe_machine()}
    write_run(run, describe(recipe, noise.labels, record))
    return start
