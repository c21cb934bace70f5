"""When there is something to see: events an hour through the day and the week, in bursts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["EventRate"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class EventRate:
    """A gate that people pass: two rush hours, little at night, less at weekends, and bursts that no clock foretells.

    Attributes:
        mean_per_h: mean over a working day.
        night_share: rate at night over the mean of the day, >= 0.
        rush_hours: the middles of the morning's and the evening's rush.
        rush_width_h: standard deviation of a rush in time.
        weekend_share: rate on two days of seven over that of the others.
        burstiness: standard deviation of the rate's logarithm about its mean for the hour; 0 for none.
        burst_h: time constant of a burst.
    """

    mean_per_h: float = 60.0
    night_share: float = 0.1
    rush_hours: tuple[float, float] = (8.0, 17.5)
    rush_width_h: float = 1.5
    weekend_share: float = 0.5
    burstiness: float = 0.6
    burst_h: float = 2.0

    def __post_init__(self) -> None:
        for name in ("mean_per_h", "rush_width_h", "burst_h"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        for name in ("night_share", "weekend_share", "burstiness"):
            if not 0.0 <= (value := getattr(self, name)) <= 5.0:
                raise ValueError(f"{name} must lie in [0, 5], got {value:g}")

    def expected(self, hour: npt.ArrayLike, weekday: npt.ArrayLike) -> Floats:
        """Mean rate, events an hour.

        Args:
            hour: of the day, any shape.
            weekday: 0 to 6, 5 and 6 are the weekend; a shape that broadcasts with it.
        """
        shape = self._shape(np.asarray(hour, np.float64)) / self._shape(np.arange(0.0, 24.0, 0.25)).mean()
        return np.asarray(self.mean_per_h * shape * np.where(np.asarray(weekday) >= 5, self.weekend_share, 1.0))

    def bursts(self, noise: Floats) -> Floats:
        """Factors of mean 1 on the rate.

        Args:
            noise: a standard normal process with the time constant `burst_h`, any shape.
        """
        return np.asarray(np.exp(self.burstiness * noise - 0.5 * self.burstiness**2))

    def _shape(self, hour: Floats) -> Floats:
        rush = np.zeros_like(hour)
        for middle in self.rush_hours:
            off = (hour - middle + 12.0) % 24.0 - 12.0
            rush = rush + np.exp(-0.5 * (off / self.rush_width_h) ** 2)
        by_day = 1.0 / (1.0 + np.exp(-2.0 * (np.minimum(hour - 6.5, 21.0 - hour))))
        return np.asarray(self.night_share + 0.6 * by_day + 1.6 * rush)
