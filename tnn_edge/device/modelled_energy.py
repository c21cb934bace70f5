"""An estimate of energy for machines that measure none."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["ModelledMeter"]


class ModelledMeter:
    """Energy = power of a busy core x CPU time + energy of a multiply-add x multiply-adds.

    Only the times are measured. The coefficients are those of other machines, so what it says serves to compare
    operating points of one network on one machine, not as an amount: power at rest, main memory, regulators and GPU
    are not in it.

    Args:
        busy_core_w: what a core takes while it computes, beyond rest. 0.65 W: on a Raspberry Pi 5 the processor's
            rail rose from 0.71 to 2.02 W with two busy threads (ml-energy/zeus #273); a core of a desktop takes
            several times as much.
        joules_per_gmac: of a billion multiply-adds. 0.0046 J: 3.7 pJ for a multiplication and 0.9 pJ for an addition
            of 32-bit floats at 45 nm (Horowitz, ISSCC 2014, figure 1.1.9).
        cpu_clock: CPU time of all threads of this process, in s; what child processes compute is not seen.
    """

    scope = "cpu (modelled)"
    is_modelled = True
    least_s = 0.0

    def __init__(
        self,
        *,
        busy_core_w: float = 0.65,
        joules_per_gmac: float = 0.0046,
        cpu_clock: Callable[[], float] = time.process_time,
    ) -> None:
        for name, value in (("busy_core_w", busy_core_w), ("joules_per_gmac", joules_per_gmac)):
            if not 0.0 <= value < float("inf"):
                raise ValueError(f"{name} must be a finite number, at least 0, got {value:g}")
        self.name = f"model ({busy_core_w:g} W a busy core, {1000.0 * joules_per_gmac:g} mJ a GMAC)"
        self._busy_core_w = busy_core_w
        self._joules_per_gmac = joules_per_gmac
        self._cpu_clock = cpu_clock
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last estimate lacked."""
        return self._notes

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:
        """Estimate of the energy in J of `work`; None where it took no CPU time that shows.

        Args:
            work: see `EnergyMeter`.
            macs: multiply-adds of all the work; 0 leaves their share out.
        """
        if macs < 0:
            raise ValueError(f"macs must be at least 0, got {macs}")
        start_s = self._cpu_clock()
        work()
        cpu_s = self._cpu_clock() - start_s
        energy_j = self._busy_core_w * cpu_s + self._joules_per_gmac * 1e-9 * macs
        is_known = cpu_s > 0.0 and energy_j > 0.0
        self._notes = () if is_known else ("the work took no CPU time that shows",)
        return energy_j if is_known else None
