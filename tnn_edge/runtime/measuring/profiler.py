"""Measure what every operating point costs on this machine: time, CPU time and energy."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from tnn_edge.runtime.cost_profile import PointCost, Profile, ProfileKey
from tnn_edge.runtime.engine import Engine
from tnn_edge.runtime.measuring.timing import check_resident, conditions, no_collection, timed_ms
from tnn_edge.runtime.measuring.work_meter import Clocks, EnergyMeter, Work, WorkMeter

__all__ = ["measure_profile"]

FloatArray = npt.NDArray[np.float64]

_WARM_UP_ROUNDS = 5
_LEAST_PASSES, _MOST_PASSES = 3, 15
_LEAST_PASS_S = 0.1
_SPEED_RUNS = 10
_LEAST_ROUNDS_P99 = 100


def measure_profile(
    engine: Engine,
    *,
    meter: EnergyMeter | None = None,
    rounds: int = 200,
    seconds: float = 2.0,
    idle_seconds: float = 3.0,
    clocks: Clocks | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> Profile:
    """Measure every operating point of a loaded bundle.

    Latency: in each round every point runs once, in an order drawn anew (fixed seed), so that whatever else the machine
    does falls on all points alike, and each finds the caches as another point left them. CPU time and energy: each
    point repeats its inference for a while, in passes over all points whose medians count. A gate network is not asked,
    since the point is given.

    Args:
        engine: a loaded bundle.
        meter: of energy; None where there is none.
        rounds: inferences timed at each point.
        seconds: how long each point is repeated in all; longer where the meter needs that.
        idle_seconds: how long the machine rests for its power at rest, before anything else; nothing else should run.
        clocks: what time is read from.
        on_progress: called with what is being done.

    Raises:
        InputError: an operating point is not in memory.
        PlanError: ONNX Runtime fails.
    """
    check_resident(engine, engine.points)
    meters = WorkMeter(meter, clocks or Clocks())
    x = engine.bundle.golden[0][:1].copy()
    points = [(point, partial(engine.run_point, x, point)) for point in engine.points]
    on_progress("power at rest")
    idle_w = meters.idle_w(idle_seconds)
    with no_collection():
        latency_ms = _latencies([run for _, run in points], rounds, meters.clocks.wall_ns, on_progress)
        works: list[list[Work]] = [[] for _ in points]
        order = np.random.default_rng(1)
        n_passes = min(max(int(seconds / meters.least_s(_LEAST_PASS_S)), _LEAST_PASSES), _MOST_PASSES)
        pass_s = meters.least_s(seconds / n_passes)
        fastest_ms = [_fastest_ms(run, meters.clocks.wall_ns) for _, run in points]
        for done in range(n_passes):
            on_progress(f"energy, pass {done + 1} of {n_passes}")
            for i in order.permutation(len(points)):
                point, run = points[i]
                works[i].append(_repeated(run, math.ceil(1e3 * pass_s / fastest_ms[i]), point.macs, meters))
    return Profile(
        key=ProfileKey.of(engine.bundle, engine.plans, engine.device, engine.settings),
        name=engine.manifest.name,
        machine=conditions(engine),
        measured_at=dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        rounds=rounds,
        meter=meters.spec(),
        idle_w=idle_w,
        points=tuple(_cost(point.u, latency_ms[i], works[i], idle_w) for i, (point, _) in enumerate(points)),
    )


def _latencies(
    runs: Sequence[Callable[[], object]], rounds: int, wall_ns: Callable[[], int], on_progress: Callable[[str], None]
) -> FloatArray:
    """Milliseconds, shape [points, rounds]."""
    took_ms = np.empty((len(runs), _WARM_UP_ROUNDS + rounds))
    order = np.random.default_rng(0)
    for k in range(_WARM_UP_ROUNDS + rounds):
        on_progress(f"latency, round {max(0, k - _WARM_UP_ROUNDS)} of {rounds}")
        for i in order.permutation(len(runs)):
            took_ms[i, k] = timed_ms(runs[i], wall_ns)
    return took_ms[:, _WARM_UP_ROUNDS:]


def _fastest_ms(run: Callable[[], object], wall_ns: Callable[[], int]) -> float:
    """The least that one inference takes among others of its point: whatever is repeated by it lasts long enough."""
    return min(timed_ms(run, wall_ns) for _ in range(_SPEED_RUNS))


def _repeated(run: Callable[[], object], n: int, macs: int, meters: WorkMeter) -> Work:
    """One inference, `n` times."""

    def repeat() -> None:
        for _ in range(n):
            run()

    return meters.measure(repeat, runs=n, macs=n * macs)


def _cost(u: float, latency_ms: FloatArray, works: Sequence[Work], idle_w: float | None) -> PointCost:
    p50, p95, p99 = (float(value) for value in np.percentile(latency_ms, [50, 95, 99]))
    known = [(work, work.energy_j) for work in works if work.energy_j is not None]
    energy_mj = above_mj = None
    if known:
        energy_mj = statistics.median(1e3 * energy_j / work.runs for work, energy_j in known)
    if known and idle_w is not None:
        above_mj = statistics.median(1e3 * (energy_j - idle_w * work.wall_s) / work.runs for work, energy_j in known)
    return PointCost(
        u=u,
        latency_p50_ms=p50,
        latency_p95_ms=p95,
        latency_p99_ms=p99 if len(latency_ms) >= _LEAST_ROUNDS_P99 else None,
        cpu_ms=statistics.median(1e3 * work.cpu_s / work.runs for work in works),
        energy_mj=energy_mj,
        energy_above_idle_mj=above_mj if above_mj is not None and above_mj > 0.0 else None,
    )
