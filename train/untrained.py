"""A run with random weights."""

from __future__ import annotations

from pathlib import Path

import torch

from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import write_checkpoint, write_run, write_statistics_table
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.registry import build_network
from train.description import describe
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.recipe import Recipe

__all__ = ["write_untrained"]


def write_untrained(recipe: Recipe, run: Path, n_images: int = 64) -> None:
    """Write a run with random weights, for a network that is only to be timed or tried.

    Normalisation gets random values too: with those of a fresh network every branch would be zero.

    Raises:
        RunError: `run` already holds a run.
    """
    if (run / "run.json").exists():
        raise RunError(f"{run} already holds a run; choose another --out")
    generator = torch.Generator().manual_seed(recipe.seed)
    torch.manual_seed(recipe.seed)
    network = build_network(recipe.network.architecture, recipe.network.sizes)
    for norm in (module for module in network.modules() if isinstance(module, BatchNorm)):
        norm.weight.data.uniform_(0.2, 0.6, generator=generator)
        norm.bias.data.uniform_(-0.2, 0.2, generator=generator)
    size, n_classes = recipe.data.image_size, network.head.classifier.out_features
    noise = ImageSet(
        images=torch.randint(0, 256, (n_images, 3, size, size), dtype=torch.uint8, generator=generator),
        targets=torch.arange(n_images) % n_classes,
        labels=tuple(f"class {i}" for i in range(n_classes)),
        names=tuple(f"noise/{i}" for i in range(n_images)),
    )
    write_checkpoint(run, network, extra={"generator": generator.get_state()}, progress={"epochs": 0})
    if recipe.throttle.statistics == "per_point":
        write_statistics_table(run, measure_table(network, noise, recipe))
    write_run(run, describe(recipe, noise, {"data": "none: random weights", **describe_machine()}))
