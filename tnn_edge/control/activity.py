"""More throttle while something goes on: the recent past as a forecast of the next moment."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision
from tnn_edge.throttle import check_throttle

__all__ = ["ActivityPolicy", "ActivityState"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ActivityPolicy:
    """u follows the discounted mean of recent activity, and is 1 on a detection.

    The hand-written rule of the author of the paper on throttleable networks, against which he measured learned
    controllers. Activity is the signal `workload`. The rule does not know of a battery.

    Attributes:
        detection_workload: workload at and above which something is being detected, in [0, 1].
        time_constant_h: hours in which past activity is forgotten, > 0.
        lowest_u: throttle without any activity.
    """

    detection_workload: float = 0.5
    time_constant_h: float = 1.0
    lowest_u: float = 0.0

    def __post_init__(self) -> None:
        check_value("detection_workload", "workload", self.detection_workload)
        check_throttle(self.lowest_u, "lowest_u")
        if not 0.0 < self.time_constant_h < math.inf:
            raise ValueError(f"time_constant_h must be a finite number above 0, got {self.time_constant_h:g}")

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("activity", "detection", "unknown_workload")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"workload"})

    def initial_state(self, n: int) -> ActivityState:
        return ActivityState(activity=np.zeros(n), time_s=None)

    def decide(self, observation: Observation, state: ActivityState) -> tuple[Decision, ActivityState]:
        workload = observation["workload"]
        is_known = ~np.isnan(workload)
        elapsed_s = 0.0 if state.time_s is None else max(0.0, observation.time_s - state.time_s)
        gain = 1.0 if state.time_s is None else 1.0 - np.exp(-elapsed_s / (3600.0 * self.time_constant_h))
        activity = state.activity + np.where(is_known, gain * (workload - state.activity), 0.0)
        is_detected = is_known & (workload >= self.detection_workload)
        u = np.where(is_detected, 1.0, self.lowest_u + (1.0 - self.lowest_u) * activity)
        reason = np.where(is_known, np.where(is_detected, 1, 0), 2)
        decision = Decision(np.where(is_known, u, np.nan), reason.astype(np.intp))
        return decision, ActivityState(activity=activity, time_s=observation.time_s)


@dataclass(frozen=True, eq=False, kw_only=True)
class ActivityState:
    """Attributes: activity: discounted mean of the workload, shape [n]; time_s: of the last decision."""

    activity: Floats
    time_s: float | None
