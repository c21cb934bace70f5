"""Profiles by hand, and a meter that knows what it will say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tnn_edge.bundle import OperatingPoint
from tnn_edge.runtime.cost_profile import MeterSpec, PointCost, Profile, ProfileKey


def point(u: float, accuracy: float | None = None, macs: int = 1) -> OperatingPoint:
    return OperatingPoint(u=u, gates={"g": "1"}, utilisation=1.0, macs=macs, accuracy=accuracy)


def cost(u: float, ms: float, mj: float | None = None) -> PointCost:
    """A point whose 95th percentile is `ms`."""
    return PointCost(
        u=u, latency_p50_ms=ms / 2, latency_p95_ms=ms, latency_p99_ms=None, cpu_ms=ms, energy_mj=mj,
        energy_above_idle_mj=None,
    )  # fmt: skip


def profile(costs: Sequence[PointCost], *, is_modelled: bool = False) -> Profile:
    return Profile(
        key=ProfileKey(
            bundle="0" * 64,
            plans="p",
            device="cpu",
            cpu="some CPU",
            cores=2,
            settings={"threads": 1, "spinning": False},
        ),
        name="net",
        machine={"cpu": "some CPU"},
        measured_at="2025-01-01T00:00:00+00:00",
        rounds=20,
        meter=MeterSpec(name="rail 1", is_modelled=is_modelled, scope="board"),
        idle_w=None,
        points=tuple(costs),
    )


class PacedClock:
    """Time passes only where somebody says so."""

    def __init__(self) -> None:
        self.now_ns = 0
        self.slept_s: list[float] = []

    def __call__(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        self.now_ns += round(seconds * 1e9)


@dataclass
class Watts:
    """A meter of a machine that takes `rest_w` at rest, and `joules_per_mac` on top of it; see `EnergyMeter`."""

    clock: Callable[[], int]
    rest_w: float = 2.0
    joules_per_mac: float = 1e-9
    is_lost: Callable[[], bool] = lambda: False
    is_modelled: bool = False
    least_s: float = 0.0
    name: str = "rail 1"
    scope: str = "board"
    notes: tuple[str, ...] = ()
    took_s: list[float] = field(default_factory=list)

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:
        start = self.clock()
        work()
        took_s = (self.clock() - start) / 1e9
        self.took_s.append(took_s)
        self.notes = ("rail 1 went away",) if self.is_lost() else ()
        return None if self.notes else self.rest_w * took_s + self.joules_per_mac * macs


def two_watts(device: str) -> tuple[Watts, tuple[str, ...]]:
    """A meter that a process of its own can make."""
    return Watts(time.perf_counter_ns), ()
