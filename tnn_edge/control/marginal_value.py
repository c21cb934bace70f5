"""What an operating point is worth against what it draws: the choice that price and drift-plus-penalty share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.device_profile import DeviceProfile
from tnn_edge.control.observation import Observation
from tnn_edge.control.policy import Decision

__all__ = ["LACKS", "MarginalValue"]

Floats = npt.NDArray[np.float64]

LACKS = ("unknown_soc", "unknown_lux", "unknown_workload")
"""Reason codes that follow a policy's own, where it cannot weigh."""


@dataclass(frozen=True, kw_only=True)
class MarginalValue:
    """Weighs events answered right against energy.

    Attributes:
        profile: what each operating point draws, and how well it answers by light.
        base_workload: the signal `workload` while nothing happens, in [0, 1).
        full_events_per_h: events an hour that make a workload of 1; in between it is linear.
    """

    profile: DeviceProfile
    base_workload: float
    full_events_per_h: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.base_workload < 1.0:
            raise ValueError(f"base_workload must lie in [0, 1), got {self.base_workload:g}")
        if not 0.0 < self.full_events_per_h < np.inf:
            raise ValueError(f"full_events_per_h must be a finite number above 0, got {self.full_events_per_h:g}")

    def events_per_h(self, workload: Floats) -> Floats:
        """Events an hour that a workload means, shape [n]."""
        busy = np.maximum(workload - self.base_workload, 0.0) / (1.0 - self.base_workload)
        return np.asarray(self.full_events_per_h * busy)

    def decide(self, observation: Observation, price_per_wh: Floats) -> Decision:
        """The throttle that is worth most at a price; of equals the lowest.

        It maximises events_per_h accuracy(u, lux) - price_per_wh workload power_w(u).

        Args:
            observation: of n devices.
            price_per_wh: events that a Wh is worth, shape [n]; NaN where soc is unknown.

        Returns:
            U, NaN where anything is unknown; and as its reason 0, the policy's own, or 1 + the index into `LACKS`.
        """
        lux, workload = observation["lux"], observation["workload"]
        gain = self.events_per_h(workload)[:, None] * self.profile.accuracy_at(lux)
        worth = gain - (price_per_wh * workload)[:, None] * self.profile.power_w  # [n, n_points]
        u = self.profile.u[np.argmax(worth, axis=1)]
        lacks = np.select([np.isnan(price_per_wh), np.isnan(lux), np.isnan(workload)], [1, 2, 3], 0)
        return Decision(np.where(lacks > 0, np.nan, u), lacks.astype(np.intp))
