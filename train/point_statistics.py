"""Normalisation statistics of every operating point, re-estimated after training."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics, measure_statistics, read_statistics
from train.augmentation import seen_by_sensor
from train.recipe import Recipe

__all__ = ["measure_table"]


def measure_table(
    network: ThrottleableNetwork, data: ImageSet | ImageTree, recipe: Recipe, batch: int = 512
) -> list[Statistics]:
    """Normalisation statistics of every operating point, u rising, each measured on the sliced network.

    Measured from u = 1 downwards: channels that a point leaves off keep the statistics of the next larger one.
    Images are seen through the sensor as in the training: u = 1 has the running statistics of that mixture.
    """
    device = next(network.parameters()).device

    def inputs() -> Iterator[Tensor]:
        for part in images.split(batch):
            yield normalised(part, recipe.data.mean, recipe.data.std).to(device)

    images = _images(data, recipe)
    row: Statistics = read_statistics(network)
    table: list[Statistics] = []
    for _, gates in reversed(network.schedule.operating_points(recipe.seed, recipe.throttle.points)):
        if not all(all(bits) for bits in gates.values()):  # with everything on it is the plain network
            row = measure_statistics(network, (network.sliced(x, gates) for x in inputs()), row)
        table.append(row)
    return table[::-1]


def _images(data: ImageSet | ImageTree, recipe: Recipe) -> Tensor:
    """The images to measure over: uint8 [N, 3, H, W]."""
    generator = torch.Generator().manual_seed(recipe.seed)
    chosen = torch.randperm(len(data), generator=generator)[: recipe.throttle.statistics_images]
    taken = data.take(chosen)
    images = taken.load().images if isinstance(taken, ImageTree) else taken.images
    return images if recipe.data.light is None else seen_by_sensor(images, recipe.data.light, generator)
