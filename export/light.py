"""Accuracy, confidence and calibration by light, on held-out images seen through the image sensor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Final

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from tnn_edge.bundle import LightTable
from tnn_edge.nn.checkpoint import RunDescription, use_point
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.evaluation import Evaluation, evaluate
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics
from tnn_edge.plant import ImageSensor

__all__ = ["LEVELS_LUX", "evenly_spread", "measure_light", "seen_by"]

LEVELS_LUX: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1_000.0, 10_000.0, 200_000.0)
"""From a moonlit night to the sun. From about 1,200 lux on, auto-exposure keeps the picture of the default sensor the
same; the last levels are there so that the table covers a day."""

_BATCH = 250


def evenly_spread(data: ImageSet, n: int) -> ImageSet:
    """At most n images, at equal distances."""
    n = min(n, len(data))
    return data.take(torch.arange(n) * len(data) // n)


def seen_by(sensor: ImageSensor, data: ImageSet, lux: float, seed: int = 0) -> ImageSet:
    """The images as the sensor, with auto-exposure, sees them by a light; the same seed gives the same noise."""
    rng = np.random.default_rng(seed)
    seen = [torch.from_numpy(sensor.capture(part.numpy(), lux, rng)) for part in data.images.split(_BATCH)]
    return ImageSet(images=torch.cat(seen), targets=data.targets, labels=data.labels, names=data.names)


def measure_light(
    network: ThrottleableNetwork,
    description: RunDescription,
    points: Sequence[GateVector],
    table: Sequence[Statistics] | None,
    data: ImageSet,
) -> LightTable:
    """Evaluate every operating point at every light level, all points on the same noisy pictures.

    Args:
        network: of the run; it is left with the statistics of the last point.
        description: of the run.
        points: gate vectors, u rising.
        table: statistics of the points, None where they share the network's.
        data: images that the training did not see, at least one.
    """
    sensor = ImageSensor()
    measured: list[Evaluation] = []
    jobs = ((seen, i) for seen in _views(sensor, data) for i in range(len(points)))
    steps = len(LEVELS_LUX) * len(points)
    for seen, index in track(jobs, "accuracy by light", total=steps, console=Console(stderr=True)):
        use_point(network, table, index)
        measured.append(evaluate(network, points[index], seen, mean=description.mean, std=description.std))

    def by_point(name: str) -> tuple[tuple[float, ...], ...]:
        return tuple(
            tuple(round(getattr(one, name), 4) for one in measured[index :: len(points)])
            for index in range(len(points))
        )

    return LightTable(
        lux=LEVELS_LUX,
        accuracy=by_point("accuracy"),
        confidence=by_point("confidence"),
        calibration_error=by_point("calibration_error"),
        n_images=len(data),
        sensor={name: float(f"{value:.5g}") for name, value in asdict(sensor).items()},
    )


def _views(sensor: ImageSensor, data: ImageSet) -> Iterator[ImageSet]:
    for lux in LEVELS_LUX:
        yield seen_by(sensor, data, lux)
