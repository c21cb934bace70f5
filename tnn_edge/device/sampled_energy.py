"""An energy meter over any sensor of power."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import pairwise

from tnn_edge.device.power import Unknown
from tnn_edge.device.power_samples import Sampling, Stop, energy_between

__all__ = ["SampledMeter"]

_LEAST_READINGS = 20
_LONGEST_GAP = 0.25  # of the work: a thread that competes with a busy machine now and then waits 0.1 s for its turn


class SampledMeter:
    """Reads power in a thread while the work runs and integrates it.

    A measurement is refused where the work is shorter than 20 readings of the sensor, or where a quarter of it or more
    passed without one: because the sensor went away, or because the thread was not let in. Between two readings power
    counts as linear.

    Args:
        read_w: power of now in W; it must not raise.
        name: see `EnergyMeter`.
        scope: see `EnergyMeter`.
        period_s: time between two readings.
        refresh_s: how old what the sensor says may be; more frequent readings only repeat it.
        clock: monotonic, in s.
        new_stop: what ends the thread's waiting, one for each measurement.

    Attributes:
        period_s: the longer of the two.
    """

    is_modelled = False

    def __init__(
        self,
        read_w: Callable[[], float | Unknown],
        *,
        name: str,
        scope: str,
        period_s: float,
        refresh_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
        new_stop: Callable[[], Stop] = threading.Event,
    ) -> None:
        if not period_s > 0.0:
            raise ValueError(f"period_s must be above 0, got {period_s:g}")
        self.name = name
        self.scope = scope
        self.period_s = max(period_s, refresh_s)
        self.least_s = _LEAST_READINGS * self.period_s
        self._read_w = read_w
        self._clock = clock
        self._new_stop = new_stop
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last measurement could not use, and why."""
        return self._notes

    def measure(self, work: Callable[[], object], *, macs: int = 0) -> float | None:  # noqa: ARG002 - for models
        """Energy in J that was taken while `work` ran, None where it is unknown."""
        sampling = Sampling(self._read_w, self._clock)
        start_s, end_s = sampling.during(work, period_s=self.period_s, stop=self._new_stop())
        energy = self._energy(sampling, start_s, end_s)
        refusal = [energy.reason] if isinstance(energy, Unknown) else []
        self._notes = tuple(dict.fromkeys([*refusal, *sampling.failures]))
        return None if isinstance(energy, Unknown) else energy

    def _energy(self, sampling: Sampling, start_s: float, end_s: float) -> float | Unknown:
        if end_s - start_s < self.least_s:
            return Unknown(f"the work took less than the {self.least_s:g} s that {self.name} needs")
        samples = sampling.samples
        if not samples or samples[0].at_s > start_s or samples[-1].at_s < end_s:
            return Unknown(f"{self.name} did not answer before or after the work")
        gap_s = max(b.at_s - a.at_s for a, b in pairwise(samples))
        if gap_s >= _LONGEST_GAP * (end_s - start_s):
            return Unknown(f"a quarter of the work or more passed without a reading of {self.name}")
        return energy_between(samples, start_s, end_s)
