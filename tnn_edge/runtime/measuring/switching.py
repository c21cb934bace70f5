"""What turning the dial costs: the first frame after a switch against the steady state, and what switching leaves."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from tnn_edge.errors import InputError
from tnn_edge.runtime.engine import Engine
from tnn_edge.runtime.measuring.timing import bring_in, conditions, no_collection, timed_ms

__all__ = ["Spread", "Switching", "time_switching"]

_WARM_UP = 3


@dataclass(frozen=True)
class Spread:
    """Latencies as multiples of the steady median of the operating point that ran."""

    p50: float
    p99: float
    max: float

    @classmethod
    def of(cls, ratios: npt.NDArray[np.float64]) -> Spread:
        """The spread of ratios, shape [N]."""
        return cls(*(float(value) for value in np.percentile(ratios, (50, 99, 100))))


@dataclass(frozen=True)
class Switching:
    """Random switches among the operating points in memory.

    Attributes:
        machine: see `conditions`.
        n_points: operating points in memory.
        n_switches: as many as were timed.
        first: the first frame after a switch.
        steady: the frame after it, at the same point.
        rss_change_mb: memory of the process after all switches, less that before them, MB of 2^20 bytes.
        files_change: open files, likewise.
    """

    machine: dict[str, object]
    n_points: int
    n_switches: int
    first: Spread
    steady: Spread
    rss_change_mb: float
    files_change: int

    def as_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return asdict(self)


def time_switching(engine: Engine, n_switches: int = 10_000, *, seed: int = 0) -> Switching:
    """Switch at random, and run two frames after each switch.

    Within a budget of memory those operating points take part that it has room for.

    Args:
        engine: a loaded bundle.
        n_switches: each to another point than the last.
        seed: of the order.

    Raises:
        InputError: fewer than two operating points are in memory, or no switch is asked for.
        PlanError: ONNX Runtime fails.
    """
    if n_switches < 1:
        raise InputError(f"n_switches must be at least 1, got {n_switches}")
    bring_in(engine, engine.points)
    points = engine.resident
    if len(points) < 2:
        raise InputError(
            f"a switch needs two operating points in memory; of {len(engine.points)} there is {len(points)}"
            + ("; raise max_resident_mb" if len(engine.points) > 1 else "")
        )
    x = engine.bundle.golden[0][:1].copy()
    runs = [partial(engine.run_point, x, point) for point in points]
    order = _switches(len(points), n_switches, seed)
    ms = np.full((n_switches, 2), np.nan)  # filled, so that its pages count as memory before the first switch
    process = psutil.Process()
    for run in runs * _WARM_UP:
        run()
    with no_collection():
        before = process.memory_info().rss, process.num_fds()
        for k, i in enumerate(order):
            ms[k] = timed_ms(runs[i]), timed_ms(runs[i])
        after = process.memory_info().rss, process.num_fds()
    medians = {i: np.median(ms[order == i, 1]) for i in np.unique(order)}
    ratios = ms / np.array([medians[i] for i in order])[:, None]
    return Switching(
        machine=conditions(engine),
        n_points=len(points),
        n_switches=n_switches,
        first=Spread.of(ratios[:, 0]),
        steady=Spread.of(ratios[:, 1]),
        rss_change_mb=(after[0] - before[0]) / 2**20,
        files_change=after[1] - before[1],
    )


def _switches(n_points: int, n_switches: int, seed: int) -> npt.NDArray[np.int64]:
    """Numbers of points, each another than the one before it, the first another than the last point, which ran last."""
    steps = np.random.default_rng(seed).integers(1, n_points, n_switches)
    return (np.cumsum(steps) - 1) % n_points
