"""What threads and spinning cost at a few operating points, back to back and at a camera's pace.

Thread pools belong to the process and outlive a call: each combination is timed in a process of its own.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tnn_edge.errors import PlanError
from tnn_edge.runtime.installing.confined import Limits, confined
from tnn_edge.runtime.installing.plan_key import Precision
from tnn_edge.runtime.loading import load
from tnn_edge.runtime.measuring.work_meter import Clocks, EnergyMeter, Work, WorkMeter
from tnn_edge.runtime.providers import Device, SessionSettings

__all__ = ["SettingCost", "settings_table", "thread_counts", "time_setting"]

_WARM_UP_S = 0.2
_GRACE_S = 60.0
"""For a child to start, and to load the plans on a slow card."""


@dataclass(frozen=True, kw_only=True)
class SettingCost:
    """One operating point under one setting: medians over processes.

    Attributes:
        u: the operating point's.
        threads: see `SessionSettings`.
        spinning: see `SessionSettings`.
        latency_ms: median wall time of an inference, back to back.
        cpu_ms: CPU time of an inference, back to back.
        paced_latency_ms: median wall time of an inference, one in each period.
        paced_cpu_ms: CPU time of a period, one inference and the waiting for the next.
        paced_energy_mj: measured energy of a period, with what the machine takes at rest; None where none measures it.
    """

    u: float
    threads: int
    spinning: bool
    latency_ms: float
    cpu_ms: float
    paced_latency_ms: float
    paced_cpu_ms: float
    paced_energy_mj: float | None


_MEASURED = ("latency_ms", "cpu_ms", "paced_latency_ms", "paced_cpu_ms", "paced_energy_mj")


def thread_counts(n_cores: int) -> list[int]:
    """1, 2, 4 and so on up to the cores, and as many as there are."""
    return sorted({2**i for i in range(n_cores.bit_length())} | {n_cores})


def settings_table(
    bundle: Path,
    device: Device,
    *,
    precision: Precision = "float32",
    dial: Sequence[float],
    threads: Sequence[int],
    period_s: float = 1.0 / 30.0,
    seconds: float = 1.0,
    repeats: int = 3,
    meter: str | None = None,
    cache: Path | None = None,
    on_progress: Callable[[str], None] = lambda text: None,
) -> tuple[SettingCost, ...]:
    """Time every combination of operating point, threads and spinning, all in turn in every repeat, in an order anew.

    Args:
        bundle: folder of an installed bundle.
        device: to run on.
        precision: see `load`.
        dial: throttles that select the operating points.
        threads: numbers of threads.
        period_s: from one inference to the next at a camera's pace; a longer inference is followed at once.
        seconds: how long each combination runs back to back, and again at the camera's pace, in each repeat.
        repeats: processes for each combination; the medians count.
        meter: ``module:function``, called in each process with ``device``; it gives an energy meter, and why no better.
        cache: see `load`.
        on_progress: called with what is being done.

    Raises:
        BundleError: the bundle is damaged.
        PlanError: a process fails.
    """
    combinations = [
        (u, n_threads, spinning)
        for u, n_threads, spinning in itertools.product(dict.fromkeys(dial), threads, (False, True))
        if n_threads > 1 or not spinning  # one thread is the caller's own, which does not wait
    ]
    runs: dict[tuple[float, int, bool], list[Mapping[str, Any]]] = {combination: [] for combination in combinations}
    fixed = {
        "bundle": str(bundle),
        "device": device,
        "precision": precision,
        "period_s": period_s,
        "seconds": seconds,
        "meter": meter,
        "cache": None if cache is None else str(cache),
    }
    limits = Limits(None, None, _GRACE_S + 20.0 * (seconds + period_s))
    order = np.random.default_rng(0)
    done = itertools.count(1)
    for _ in range(repeats):
        for i in order.permutation(len(combinations)):
            u, n_threads, spinning = combinations[i]
            on_progress(f"settings, process {next(done)} of {repeats * len(combinations)}")
            arguments = fixed | {"u": u, "threads": n_threads, "spinning": spinning}
            measured = confined(
                f"{__name__}:time_setting",
                arguments,
                limits,
                what=f"timing u={u:g} with threads={n_threads}, spinning={spinning}",
                way_out="run it again while nothing else runs",
                error=PlanError,
            )
            runs[combinations[i]].append(measured)
    return tuple(
        SettingCost(u=found[0]["u"], threads=n_threads, spinning=spinning, **_medians(found))
        for (_, n_threads, spinning), found in runs.items()
    )


def _medians(found: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    known = {name: [each[name] for each in found if each[name] is not None] for name in _MEASURED}
    return {name: statistics.median(values) if values else None for name, values in known.items()}


def time_setting(
    *,
    bundle: str,
    device: Device,
    u: float,
    threads: int,
    spinning: bool,
    period_s: float,
    seconds: float,
    meter: str | None,
    cache: str | None,
    precision: Precision = "float32",
    clocks: Clocks | None = None,
) -> dict[str, float | None]:
    """Time one combination in this process; see `settings_table`.

    Returns:
        ``u`` of the operating point, and the measured fields of `SettingCost`.
    """
    settings = SessionSettings(threads=threads, spinning=spinning)
    folder = None if cache is None else Path(cache)
    with load(bundle, device, settings=settings, cache=folder, precision=precision) as engine:
        point = engine.point_at(u)
        run = partial(engine.run_point, engine.bundle.golden[0][:1].copy(), point)
        clocks = clocks or Clocks()
        meters = WorkMeter(None if meter is None else _measuring(meter, device), clocks)
        _timed(run, _WARM_UP_S, 0.0, clocks)
        # The camera's pace comes first: threads may spin on for a while after calls that follow at once.
        paced_ms, paced = _stint(run, meters.least_s(seconds), period_s, meters)
        steady_ms, steady = _stint(run, seconds, 0.0, WorkMeter(None, clocks))
    return {
        "u": point.u,
        "latency_ms": steady_ms,
        "cpu_ms": 1e3 * steady.cpu_s / steady.runs,
        "paced_latency_ms": paced_ms,
        "paced_cpu_ms": 1e3 * paced.cpu_s / paced.runs,
        "paced_energy_mj": None if paced.energy_j is None else 1e3 * paced.energy_j / paced.runs,
    }


def _stint(run: Callable[[], object], seconds: float, period_s: float, meters: WorkMeter) -> tuple[float, Work]:
    """Median milliseconds of an inference, and what all of them with the waiting between took."""
    took_s: list[float] = []
    work = meters.measure(lambda: took_s.extend(_timed(run, seconds, period_s, meters.clocks)), runs=0, macs=0)
    return 1e3 * statistics.median(took_s), replace(work, runs=len(took_s))


def _timed(run: Callable[[], object], seconds: float, period_s: float, clocks: Clocks) -> list[float]:
    """Seconds of each inference, one in each period, until `seconds` have passed; at least one."""
    took_s: list[float] = []
    begin_ns = due_ns = clocks.wall_ns()
    while not took_s or clocks.wall_ns() - begin_ns < 1e9 * seconds:
        start_ns = clocks.wall_ns()
        run()
        end_ns = clocks.wall_ns()
        took_s.append((end_ns - start_ns) / 1e9)
        due_ns = max(due_ns + round(1e9 * period_s), end_ns)
        if due_ns > end_ns:
            clocks.sleep((due_ns - end_ns) / 1e9)
    return took_s


def _measuring(meter: str, device: Device) -> EnergyMeter | None:
    """The meter, where it is one that measures."""
    module, _, name = meter.partition(":")
    found: EnergyMeter = getattr(importlib.import_module(module), name)(device=device)[0]
    return None if found.is_modelled else found
