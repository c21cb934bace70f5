"""Normalisation statistics of every operating point, re-estimated after training."""

from __future__ import annotations

import torch

from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics, measure_statistics, read_statistics
from train.batches import seen_by_sensor
from train.recipe import Recipe

__all__ = ["measure_table"]


def measure_table(network: ThrottleableNetwork, data: ImageSet, recipe: Recipe, batch: int = 512) -> list[Statistics]:
    """Normalisation statistics of every operating point, u rising, each measured on the sliced network.

    Measured from u = 1 downwards: channels that a point leaves off keep the statistics of the next larger one.
    Images are seen through the sensor as in the training: u = 1 has the running statistics of that mixture.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    chosen = torch.randperm(len(data), generator=generator)[: recipe.throttle.statistics_images]
    images = data.images[chosen]
    if recipe.data.light is not None:
        images = seen_by_sensor(images, recipe.data.light, generator)
    inputs = [normalised(part, recipe.data.mean, recipe.data.std) for part in images.split(batch)]
    row: Statistics = read_statistics(network)
    table = [row]  # u = 1 keeps its running statistics: it is the plain network
    for _, gates in reversed(network.schedule.operating_points(recipe.seed)[:-1]):
        row = measure_statistics(network, (network.sliced(x, gates) for x in inputs), row)
        table.append(row)
    return table[::-1]
