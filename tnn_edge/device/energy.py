"""What every energy meter offers, whatever it reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

__all__ = ["EnergyMeter"]


class EnergyMeter(Protocol):
    """Whatever can say how much energy a piece of work took.

    The energy is all that the metered thing took meanwhile, what it takes at rest included: what else runs on the
    machine is measured too.

    Attributes:
        name: reader and rail, as a table shows it.
        is_modelled: whether nothing is measured but time.
        scope: what is inside: `board`, `module`, `platform`, `cpu package`, `gpu`, `battery`, `cpu (modelled)`.
        least_s: work shorter than this is not measured; repeat it until it is long enough.
    """

    name: str
    is_modelled: bool
    scope: str
    least_s: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last measurement could not use, and why; never empty after a measurement of None."""
        ...

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:
        """Run `work` once, and say what was taken meanwhile.

        Args:
            work: whatever shall be measured; what it raises is passed on.
            macs: multiply-adds of the work, for meters that model.

        Returns:
            Energy in J, above 0; None where it is unknown.
        """
        ...
