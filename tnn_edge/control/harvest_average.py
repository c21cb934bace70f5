"""What comes in on average: the exponential mean of measured income, which policies that plan a day share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation

__all__ = ["HarvestAverage"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class HarvestAverage:
    """Attributes: harvest_w: average income, shape [n]; time_s: of the last observation, None before it."""

    harvest_w: Floats
    time_s: float | None

    @classmethod
    def expecting(cls, harvest_w: float, n: int) -> HarvestAverage:
        """Of n devices, before anything was measured."""
        return cls(harvest_w=np.full(n, harvest_w), time_s=None)

    def after(self, observation: Observation, *, time_constant_h: float) -> HarvestAverage:
        """With an observation in it. Where `power_in_w` is unknown the average stays as it is.

        Args:
            observation: of n devices; where its clock was set back, no time has passed.
            time_constant_h: hours in which the average forgets.
        """
        elapsed_s = 0.0 if self.time_s is None else max(0.0, observation.time_s - self.time_s)
        gain = 1.0 - np.exp(-elapsed_s / (3600.0 * time_constant_h))
        power_in_w = observation["power_in_w"]
        news = np.where(np.isnan(power_in_w), 0.0, power_in_w - self.harvest_w)
        return HarvestAverage(harvest_w=self.harvest_w + gain * news, time_s=observation.time_s)
