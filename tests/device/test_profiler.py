"""What is measured, on a clock whose time is known: milliseconds, CPU time, energy, and what is not known of them."""

from __future__ import annotations

import gc
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from tests.device.profiles import PacedClock, Watts
from tnn_edge.bundle import OperatingPoint
from tnn_edge.runtime import Engine
from tnn_edge.runtime.measuring.profiler import measure_profile
from tnn_edge.runtime.measuring.work_meter import Clocks

CORES_BUSY = 2


class Paced:
    """An engine whose inferences take `latency_ms(point)`, on `CORES_BUSY` cores. The real one runs too."""

    def __init__(self, engine: Engine) -> None:
        self.clock, self.cpu_clock = PacedClock(), PacedClock()
        self.clocks = Clocks(self.clock, self.cpu_clock, self.clock.sleep)
        self.ran: list[float] = []
        self.delays_ms = count(0, 0)
        self._engine = engine
        names = ("bundle", "manifest", "plans", "points", "resident", "device", "settings")
        parts = {name: getattr(engine, name) for name in names}
        self.engine = cast(Engine, SimpleNamespace(run_point=self._run_point, **parts))

    @staticmethod
    def latency_ms(point: OperatingPoint) -> float:
        return 1.0 + 10.0 * point.u

    def _run_point(self, x: Any, point: OperatingPoint) -> Any:
        assert not gc.isenabled()
        self.ran.append(point.u)
        took_ns = round(1e6 * (self.latency_ms(point) + next(self.delays_ms)))
        self.clock.now_ns += took_ns
        self.cpu_clock.now_ns += CORES_BUSY * took_ns
        return self._engine.run_point(x, point)


@pytest.fixture
def paced(engine: Engine) -> Paced:
    return Paced(engine)


def test_a_steady_machine_is_measured_exactly(paced: Paced) -> None:
    meter = Watts(paced.clock)
    measured = measure_profile(paced.engine, meter=meter, rounds=100, seconds=0.1, clocks=paced.clocks)
    assert measured.idle_w == pytest.approx(meter.rest_w)
    assert measured.meter is not None
    assert (measured.meter.name, measured.meter.scope, measured.meter.is_modelled) == ("rail 1", "board", False)
    for found, point in zip(measured.points, paced.engine.points, strict=True):
        ms = paced.latency_ms(point)
        assert found.u == point.u
        assert [found.latency_p50_ms, found.latency_p95_ms, found.latency_p99_ms] == pytest.approx([ms] * 3)
        assert found.cpu_ms == pytest.approx(CORES_BUSY * ms)
        assert found.energy_mj == pytest.approx(meter.rest_w * ms + 1e3 * meter.joules_per_mac * point.macs)
        assert found.energy_above_idle_mj == pytest.approx(1e3 * meter.joules_per_mac * point.macs)


def test_percentiles_are_those_of_the_rounds_after_the_warm_up(paced: Paced) -> None:
    n, warm_up, rounds = len(paced.engine.points), 5, 100
    # every round slows all its points by as many milliseconds as rounds went before it; warming up takes a second each
    paced.delays_ms = (1000 if i // n < warm_up else i // n - warm_up for i in count())  # type: ignore[assignment]
    measured = measure_profile(paced.engine, rounds=rounds, seconds=0.01, clocks=paced.clocks)
    for found, point in zip(measured.points, paced.engine.points, strict=True):
        expected = paced.latency_ms(point) + np.percentile(np.arange(rounds), [50, 95, 99])
        assert [found.latency_p50_ms, found.latency_p95_ms, found.latency_p99_ms] == pytest.approx(expected)


def test_every_round_runs_every_point_once_and_orders_differ(paced: Paced) -> None:
    measure_profile(paced.engine, rounds=20, seconds=0.01, clocks=paced.clocks)
    dial = [point.u for point in paced.engine.points]
    timed = paced.ran[: 25 * len(dial)]
    rounds = [tuple(timed[i : i + len(dial)]) for i in range(0, len(timed), len(dial))]
    assert all(sorted(each) == dial for each in rounds)
    assert len(set(rounds)) > 10


def test_a_99th_percentile_of_few_rounds_is_unknown(paced: Paced) -> None:
    measured = measure_profile(paced.engine, rounds=99, seconds=0.01, clocks=paced.clocks)
    assert [point.latency_p99_ms for point in measured.points] == [None] * 5


def test_without_a_meter_energy_is_unknown(paced: Paced) -> None:
    measured = measure_profile(paced.engine, rounds=20, seconds=0.01, clocks=paced.clocks)
    assert (measured.meter, measured.idle_w) == (None, None)
    assert all((p.energy_mj, p.energy_above_idle_mj) == (None, None) for p in measured.points)
    assert paced.clock.slept_s == []


def test_a_modelled_energy_has_no_power_at_rest_and_says_so(paced: Paced) -> None:
    meter = Watts(paced.clock, is_modelled=True)
    measured = measure_profile(paced.engine, meter=meter, rounds=20, seconds=0.01, clocks=paced.clocks)
    assert measured.meter is not None and measured.meter.is_modelled
    assert measured.idle_w is None
    assert all(p.energy_mj is not None and p.energy_above_idle_mj is None for p in measured.points)
    assert paced.clock.slept_s == []


def test_a_meter_that_answers_never_leaves_energy_unknown_and_is_quoted(paced: Paced) -> None:
    meter = Watts(paced.clock, is_lost=lambda: True)
    measured = measure_profile(paced.engine, meter=meter, rounds=20, seconds=0.01, clocks=paced.clocks)
    assert measured.meter is not None and measured.meter.notes == ("rail 1 went away",)
    assert measured.idle_w is None
    assert all((p.energy_mj, p.energy_above_idle_mj) == (None, None) for p in measured.points)


def test_a_meter_that_misses_one_pass_costs_nothing(paced: Paced) -> None:
    n, calls = len(paced.engine.points), count(0)
    # the first call is the rest, the next n are the first pass
    meter = Watts(paced.clock, is_lost=lambda: 1 <= next(calls) <= n)
    measured = measure_profile(paced.engine, meter=meter, rounds=20, seconds=0.01, clocks=paced.clocks)
    assert measured.meter is not None and measured.meter.notes == ("rail 1 went away",)
    for found, point in zip(measured.points, paced.engine.points, strict=True):
        assert found.energy_above_idle_mj == pytest.approx(1e3 * meter.joules_per_mac * point.macs)


def test_energy_that_drowns_in_the_power_at_rest_is_unknown(paced: Paced) -> None:
    meter = Watts(paced.clock, joules_per_mac=-1e-12)
    measured = measure_profile(paced.engine, meter=meter, rounds=20, seconds=0.01, clocks=paced.clocks)
    assert all(p.energy_mj is not None and p.energy_above_idle_mj is None for p in measured.points)


@pytest.mark.parametrize("least_s", [0.0, 0.05, 0.4])
def test_no_work_is_shorter_than_the_meter_needs(paced: Paced, least_s: float) -> None:
    meter = Watts(paced.clock, least_s=least_s)
    measure_profile(paced.engine, meter=meter, rounds=20, seconds=0.3, idle_seconds=0.1, clocks=paced.clocks)
    assert min(meter.took_s) >= max(least_s, 0.1)
    assert len(meter.took_s) >= 1 + 3 * len(paced.engine.points)


def test_a_real_engine_on_real_clocks_is_measured(engine: Engine) -> None:
    said: list[str] = []
    measured = measure_profile(engine, rounds=20, seconds=0.01, on_progress=said.append)
    assert [p.u for p in measured.points] == [p.u for p in engine.points]
    for point in measured.points:
        assert 0 < point.latency_p50_ms <= point.latency_p95_ms
        assert point.cpu_ms > 0
    assert {"latency, round 0 of 20", "latency, round 19 of 20", "energy, pass 1 of 3"} <= set(said)
    assert gc.isenabled()
