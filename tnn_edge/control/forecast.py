"""What the next hours will bring, by the sun's course and by what the last days brought."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation
from tnn_edge.plant import Panel
from tnn_edge.plant.sun import clear_sky_w_m2, illuminance_lux, sin_elevation

__all__ = ["ClearSky", "Experience", "Memory"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_LEAST_SINE = float(np.sin(np.radians(10.0)))
"""Lower, the sun says little of the weather: hills, haze, and a clear sky that is a model."""

_FULL_SOC = 0.97
"""From here on a battery may refuse what the panel could give."""

_LONGEST_H = 1.0
"""One measurement speaks for no more than so long."""

_LARGEST_INDEX = 1.3


@dataclass(frozen=True, kw_only=True)
class ClearSky:
    """Light and power under a sky without clouds.

    Attributes:
        latitude_deg: degrees north.
        solar_lead_h: hours by which true solar time is ahead of the clock.
        panel: horizontal.
    """

    latitude_deg: float
    solar_lead_h: float
    panel: Panel

    def sine(self, day_of_year: Floats, hour: Floats) -> Floats:
        """Sine of the sun's height; shapes broadcast, the hour may run on over midnight."""
        solar = hour + self.solar_lead_h
        return sin_elevation(self.latitude_deg, day_of_year + (solar - 12.0) / 24.0, solar)

    def power_w(self, sine: Floats) -> Floats:
        """Of the panel, of the shape of the sine."""
        return self.panel.power_w(clear_sky_w_m2(sine))

    def lux(self, sine: Floats, *, index: npt.ArrayLike, night_lux: float) -> Floats:
        """On the scene, with a share of the clear sky's light."""
        return illuminance_lux(np.asarray(index) * clear_sky_w_m2(sine), night_lux)


@dataclass(frozen=True, kw_only=True)
class Memory:
    """How long what was seen counts.

    Attributes:
        sun_h: hours of full sun in which the share of the clear sky is forgotten.
        days: days in which the course of a day is forgotten.
    """

    sun_h: float
    days: float


@dataclass(frozen=True, eq=False, kw_only=True)
class Experience:
    """What n devices have seen.

    Attributes:
        index: share of the clear sky's power that came in, exponential mean over sun hours, shape [n]. What a full
            battery refused nobody knows: while it is full the share may rise, and never falls.
        workload: mean by hour of the day, NaN where that hour was not seen yet, shape [n, 24].
        log_lux: of log10(lux), likewise.
        time_s: of the last observation, None before it.
    """

    index: Floats
    workload: Floats
    log_lux: Floats
    time_s: float | None

    @classmethod
    def none(cls, n: int, *, index: float) -> Experience:
        """Of n devices that have seen nothing."""
        unseen = np.full((n, 24), np.nan)
        return cls(index=np.full(n, index), workload=unseen, log_lux=unseen, time_s=None)

    def after(self, seen: Observation, sky: ClearSky, memory: Memory) -> Experience:
        """With an observation in it; what is unknown changes nothing."""
        elapsed_h = 0.0 if self.time_s is None else min(max(0.0, seen.time_s - self.time_s) / 3600.0, _LONGEST_H)
        log_lux = np.log10(np.maximum(seen["lux"], 1e-3))
        return replace(
            self,
            index=self._index(seen, sky, elapsed_h / memory.sun_h),
            workload=_averaged(self.workload, seen["hour"], seen["workload"], elapsed_h / memory.days),
            log_lux=_averaged(self.log_lux, seen["hour"], log_lux, elapsed_h / memory.days),
            time_s=seen.time_s,
        )

    def _index(self, seen: Observation, sky: ClearSky, time_constants: float) -> Floats:
        sine = sky.sine(seen["day_of_year"], seen["hour"])
        clear_w = np.maximum(sky.power_w(sine), 1e-3 * sky.panel.rated_w)
        measured = np.minimum(seen["power_in_w"] / clear_w, _LARGEST_INDEX)
        gain = 1.0 - np.exp(-time_constants * clear_w / sky.panel.rated_w)
        change = gain * (measured - self.index)
        may_change = (sine > _LEAST_SINE) & ((seen["soc"] < _FULL_SOC) | (change > 0.0)) & ~np.isnan(change)
        return np.where(may_change, self.index + change, self.index)


def _averaged(means: Floats, hour: Floats, value: Floats, time_constants: float) -> Floats:
    """Means by hour of the day, with a value in that of its hour."""
    devices = np.flatnonzero(~(np.isnan(hour) | np.isnan(value)))
    columns = hour[devices].astype(np.intp) % 24
    before, now = means[devices, columns], value[devices]
    after = means.copy()
    after[devices, columns] = np.where(np.isnan(before), now, before + (1.0 - np.exp(-time_constants)) * (now - before))
    return after
