"""An energy meter over counters that run all the time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tnn_edge.device.power import Unknown

__all__ = ["CountedMeter", "EnergyCounter", "counts_between"]

_LEAST_REFRESHES = 20  # a count is at most one refresh old, at either end: 5 % of the work


@dataclass(frozen=True, eq=False)
class EnergyCounter:
    """A count that grows with the energy taken.

    Attributes:
        name: for messages.
        read: the count of now; it must not raise.
        joules_per_count: what one count stands for.
        range_counts: counts after which it begins anew at 0; None where it is not known to.
    """

    name: str
    read: Callable[[], int | Unknown]
    joules_per_count: float
    range_counts: int | None = None


class CountedMeter:
    """Reads counters before and after the work; their sum is the energy.

    A measurement is refused where the work is shorter than 20 refreshes, and where a counter stood still, ran
    backwards, or may have begun anew more than once.

    Args:
        counters: of things that do not overlap.
        name: see `EnergyMeter`.
        scope: see `EnergyMeter`.
        refresh_s: how old a count may be.
        most_w: no counter's thing takes more; what would take more is no energy.
        clock: monotonic, in s.
    """

    is_modelled = False

    def __init__(
        self,
        counters: Sequence[EnergyCounter],
        *,
        name: str,
        scope: str,
        refresh_s: float,
        most_w: float = 2000.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not counters:
            raise ValueError("counters must hold at least one, got none")
        self.name = name
        self.scope = scope
        self.least_s = _LEAST_REFRESHES * refresh_s
        self._counters = tuple(counters)
        self._most_w = most_w
        self._clock = clock
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last measurement could not use, and why."""
        return self._notes

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:  # noqa: ARG002 - for models
        """Energy in J that was taken while `work` ran, None where it is unknown."""
        before = [counter.read() for counter in self._counters]
        start_s = self._clock()
        work()
        took_s = self._clock() - start_s
        after = [counter.read() for counter in self._counters]
        parts = [self._part(*part, took_s) for part in zip(self._counters, before, after, strict=True)]
        reasons = [part.reason for part in parts if isinstance(part, Unknown)]
        if took_s < self.least_s:
            reasons = [f"the work took less than the {self.least_s:g} s that {self.name} needs"]
        self._notes = tuple(dict.fromkeys(reasons))
        return None if reasons else sum(part for part in parts if not isinstance(part, Unknown))

    def _part(
        self, counter: EnergyCounter, before: int | Unknown, after: int | Unknown, took_s: float
    ) -> float | Unknown:
        if isinstance(before, Unknown):
            return before
        if isinstance(after, Unknown):
            return after
        most = self._most_w * took_s / counter.joules_per_count
        counts = counts_between(before, after, range_counts=counter.range_counts, most=most)
        if isinstance(counts, Unknown):
            return Unknown(f"{counter.name}: {counts.reason}")
        return counts * counter.joules_per_count


def counts_between(before: int, after: int, *, range_counts: int | None, most: float) -> int | Unknown:
    """Counts from one reading to the next, where they can be told.

    Args:
        before: reading at the start.
        after: reading at the end.
        range_counts: see `EnergyCounter`.
        most: more than this cannot have been counted between the two.
    """
    counts = after - before
    if counts < 0 and range_counts is not None:
        counts += range_counts
    if counts < 0:
        return Unknown("the counter ran backwards")
    if counts == 0:
        return Unknown("the counter stood still")
    if counts > most:
        return Unknown("the counter jumped further than it can have counted")
    if range_counts is not None and counts + range_counts <= most:
        return Unknown("the work took so long that the counter may have begun anew unseen")
    return counts
