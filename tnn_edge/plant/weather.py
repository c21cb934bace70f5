"""Weather: the light and the air that devices meet over days at a site."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tnn_edge.plant.clouds import Clouds
from tnn_edge.plant.sun import Site, illuminance_lux

__all__ = ["Weather", "WeatherTrace"]

Floats = npt.NDArray[np.float64]

SECONDS_PER_DAY = 86_400.0


@dataclass(frozen=True, eq=False, kw_only=True)
class WeatherTrace:
    """What n devices meet, at steps of equal length.

    Attributes:
        step_s: length of a step in seconds.
        hours: middle of each step, hours since the first midnight, shape [n_steps].
        irradiance_w_m2: global horizontal irradiance, shape [n, n_steps].
        lux: illuminance of the scene, shape [n, n_steps].
        air_c: air temperature, shape [n, n_steps].
    """

    step_s: float
    hours: Floats
    irradiance_w_m2: Floats
    lux: Floats
    air_c: Floats


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Days at a site.

    Attributes:
        site: place and first day.
        clearness: for each day, the mean share of the clear-sky irradiance that arrives; 0.9 fine, 0.2 overcast.
        clouds: how that share fluctuates.
        night_lux: illuminance without sun.
        mean_air_c: mean air temperature.
        air_swing_c: half the difference between the warmest hour, 15, and the coldest, 3; clouds do not change it.
    """

    site: Site
    clearness: Sequence[float]
    clouds: Clouds = field(default_factory=Clouds)
    night_lux: float = 1.0
    mean_air_c: float = 15.0
    air_swing_c: float = 6.0

    def __post_init__(self) -> None:
        self.clouds.checked(self.clearness)
        for name in ("night_lux", "air_swing_c"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value:g}")
        if not math.isfinite(self.mean_air_c):
            raise ValueError(f"mean_air_c must be finite, got {self.mean_air_c:g}")

    def trace(self, rngs: Sequence[np.random.Generator], *, step_s: float) -> WeatherTrace:
        """Draw one trace per generator, each from its own generator alone.

        Args:
            rngs: one per device, n of them.
            step_s: length of a step in seconds, a divisor of a day.

        Raises:
            ValueError: `step_s` does not divide a day, or there is no generator.
        """
        per_day = round(SECONDS_PER_DAY / step_s) if 0.0 < step_s <= SECONDS_PER_DAY else 0
        if per_day == 0 or abs(per_day * step_s - SECONDS_PER_DAY) > 1e-6:
            raise ValueError(f"step_s must divide a day of 86400 s, got {step_s:g}")
        index = self.clouds.index(np.repeat(self.clearness, per_day), rngs, step_s=step_s)
        hours = (np.arange(index.shape[1], dtype=np.float64) + 0.5) * step_s / 3600.0
        irradiance = index * self.site.clear_sky_w_m2(hours)
        air_c = self.mean_air_c + self.air_swing_c * np.cos(2.0 * np.pi * (hours - 15.0) / 24.0)
        return WeatherTrace(
            step_s=step_s,
            hours=hours,
            irradiance_w_m2=irradiance,
            lux=illuminance_lux(irradiance, self.night_lux),
            air_c=np.broadcast_to(air_c, irradiance.shape),
        )
