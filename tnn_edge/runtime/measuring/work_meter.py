"""What is read while work is done: wall time, CPU time, and energy where there is a meter."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tnn_edge.runtime.cost_profile import MeterSpec

__all__ = ["Clocks", "EnergyMeter", "Work", "WorkMeter"]

_MARGIN = 1.1
"""Work shorter than an energy meter's shortest is not measured, and how long it will take is only an estimate."""


class EnergyMeter(Protocol):
    """Whatever can say how much energy a piece of work took, with what the machine takes at rest.

    Attributes:
        name: reader and rail, as a table shows it.
        is_modelled: whether nothing is measured but time.
        scope: what is inside: the board, the CPU package, the battery.
        least_s: work shorter than this is not measured.
        notes: what the last measurement could not use, and why.
    """

    @property
    def name(self) -> str: ...
    @property
    def is_modelled(self) -> bool: ...
    @property
    def scope(self) -> str: ...
    @property
    def least_s(self) -> float: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:
        """Run `work` once.

        Args:
            work: whatever shall be measured.
            macs: multiply-adds of the work, for meters that model.

        Returns:
            Energy in J that was taken meanwhile, above 0; None where it is unknown.
        """
        ...


@dataclass(frozen=True)
class Clocks:
    """What time is read from.

    Attributes:
        wall_ns: monotonic.
        cpu_ns: CPU time of all threads of this process.
        sleep: takes seconds.
    """

    wall_ns: Callable[[], int] = time.perf_counter_ns
    cpu_ns: Callable[[], int] = time.process_time_ns
    sleep: Callable[[float], object] = time.sleep


@dataclass(frozen=True)
class Work:
    """Inferences of one point, back to back; rest where there are none.

    Attributes:
        runs: how many.
        wall_s: wall time.
        cpu_s: CPU time.
        energy_j: with what the machine takes at rest; None where unknown.
    """

    runs: int
    wall_s: float
    cpu_s: float
    energy_j: float | None


class WorkMeter:
    """Everything that is read while work is done.

    Args:
        energy: meter of energy, None where there is none.
        clocks: what time is read from.
    """

    def __init__(self, energy: EnergyMeter | None, clocks: Clocks) -> None:
        self.energy, self.clocks = energy, clocks
        self._notes: dict[str, None] = {}

    def measure(self, do: Callable[[], object], *, runs: int, macs: int) -> Work:
        """Do it, and read every meter before and after."""
        wall_ns, cpu_ns = self.clocks.wall_ns, self.clocks.cpu_ns
        took_ns = (0, 0)

        def work() -> None:
            nonlocal took_ns
            before = wall_ns(), cpu_ns()
            do()
            took_ns = wall_ns() - before[0], cpu_ns() - before[1]

        energy_j = None
        if self.energy is None:
            work()
        else:
            energy_j = self.energy.measure(work, macs=macs)
            self._notes.update(dict.fromkeys(self.energy.notes))
        return Work(runs, took_ns[0] / 1e9, took_ns[1] / 1e9, energy_j)

    def idle_w(self, seconds: float) -> float | None:
        """Power at rest; None where it is unknown or would be modelled."""
        if self.energy is None or self.energy.is_modelled:
            return None
        rest = self.measure(lambda: self.clocks.sleep(self.least_s(seconds)), runs=0, macs=0)
        return None if rest.energy_j is None else rest.energy_j / rest.wall_s

    def least_s(self, seconds: float) -> float:
        """`seconds`, or longer where the energy meter needs that."""
        return seconds if self.energy is None else max(seconds, _MARGIN * self.energy.least_s)

    def spec(self) -> MeterSpec | None:
        """The energy meter."""
        if self.energy is None:
            return None
        meter = self.energy
        return MeterSpec(name=meter.name, is_modelled=meter.is_modelled, scope=meter.scope, notes=tuple(self._notes))
