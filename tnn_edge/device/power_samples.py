"""Power over time from readings that a thread takes while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from tnn_edge.device.power import Unknown

__all__ = ["PowerSample", "Sampling", "Stop", "energy_between"]


@dataclass(frozen=True)
class PowerSample:
    """Power in W at one moment of a monotonic clock."""

    at_s: float
    power_w: float


class Stop(Protocol):
    """What a thread waits on between two readings: `threading.Event`, or one whose time a test moves."""

    def set(self) -> None:
        """End the waiting, for good."""
        ...

    def wait(self, timeout: float) -> bool:
        """Wait for `set`, at most `timeout` seconds; whether it was called."""
        ...


class Sampling:
    """Readings before, while and after something runs.

    Each bears the time halfway through it, for a sensor behind a slow bus takes a while to answer.

    Args:
        read_w: the power of now, in W.
        clock: monotonic, in s.

    Attributes:
        samples: readings that gave a power, in the order of time.
        failures: why others gave none.
    """

    def __init__(self, read_w: Callable[[], float | Unknown], clock: Callable[[], float]) -> None:
        self.samples: list[PowerSample] = []
        self.failures: list[str] = []
        self._read_w = read_w
        self._clock = clock

    def take(self) -> None:
        """Read once."""
        before_s = self._clock()
        power_w = self._read_w()
        at_s = 0.5 * (before_s + self._clock())
        if isinstance(power_w, Unknown):
            self.failures.append(power_w.reason)
        else:
            self.samples.append(PowerSample(at_s, power_w))

    def during(self, work: Callable[[], object], *, period_s: float, stop: Stop) -> tuple[float, float]:
        """Run `work` and read before it, every `period_s` while it runs, and after it.

        Returns:
            When the work began and ended, in s.
        """
        self.take()
        thread = threading.Thread(target=self._take_until, args=(stop, period_s), name="power", daemon=True)
        thread.start()
        start_s = self._clock()
        try:
            work()
            end_s = self._clock()
        finally:
            stop.set()
            thread.join()
        self.take()
        return start_s, end_s

    def _take_until(self, stop: Stop, period_s: float) -> None:
        while not stop.wait(period_s):
            self.take()


def energy_between(samples: Sequence[PowerSample], start_s: float, end_s: float) -> float:
    """Energy in J between two moments, power being linear from sample to sample.

    Args:
        samples: in the order of time, from `start_s` or before to `end_s` or after.
        start_s: first moment.
        end_s: last moment.
    """
    if not samples or not samples[0].at_s <= start_s <= end_s <= samples[-1].at_s:
        raise ValueError("samples must reach from start_s to end_s, and start_s must not lie behind end_s")
    at_s = np.array([sample.at_s for sample in samples])
    inside = at_s[(at_s > start_s) & (at_s < end_s)]
    knots_s = np.concatenate([[start_s], inside, [end_s]])
    power_w = np.interp(knots_s, at_s, [sample.power_w for sample in samples])
    return float(np.sum(0.5 * (power_w[1:] + power_w[:-1]) * np.diff(knots_s)))
