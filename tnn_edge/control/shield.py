"""The reserve shield: the last word, so that no policy whatever can use up what the night and the winter need."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation
from tnn_edge.control.reserve import Reserve

__all__ = ["ReserveShield"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ReserveShield:
    """Lets u be no larger than leaves the reserve in the battery at the end of a period without any sun.

    Where no operating point does, and where state of charge, hour or date is unknown, u is `u_floor`. It is applied
    after floor, ceiling, slew and thermal cap, and may take u below them at once.

    Theorem. Let C(t) be the charge at which power is lost in step t, d(t) what the battery loses in it at `u_floor` and
    full workload, and R(t) the charge with which a device at `u_floor` lives through everything from step t on:
    R(t) = max(C(t - 1), C(t), C(t) + d(t), R(t + 1) + d(t)). If

        the reserve of t's season and hour is at least R(t), at every t,
        R(t) fits into the battery, at every t, and
        the charge at the start is at least R(0),

    then the device never loses power, whatever the policy asks for.

    Proof, by induction: the charge is at least R(t) at the beginning of every step t, and at least C(t) at its end.
    Either the shield let pass a u with which the charge at t + 1 is at least the reserve of t + 1 without sun at full
    workload, hence in truth, hence at least R(t + 1), which is at least C(t). Or u is `u_floor`: then the charge at
    t + 1 is at least R(t) - d(t), which is at least R(t + 1) and C(t), or the battery is full. Within a step the charge
    runs in a straight line from a charge of at least C(t) to another, so that power is never lost.

    A reserve looks at the days of a site that were measured and so many days ahead; worse weather than that breaks the
    premise, not the proof.

    Attributes:
        reserve: what to keep, and for which device.
    """

    reserve: Reserve

    @property
    def signals(self) -> frozenset[str]:
        """What it reads."""
        return frozenset({"soc", "hour", "day_of_year"})

    def limited(self, u: Floats, observation: Observation) -> Floats:
        """U, or the largest that is safe, shape [n].

        Args:
            u: what is asked for, shape [n].
            observation: of n devices.
        """
        reserve = self.reserve
        at_end = reserve.at(observation["day_of_year"], observation["hour"] + reserve.period_s / 3600.0)
        left_wh = observation["soc"][:, None] * reserve.battery_wh - reserve.needed_wh()
        n_safe = (left_wh >= at_end[:, None]).sum(axis=1)  # what is unknown is not safe
        points = np.array(reserve.u)
        largest = np.where(n_safe > 0, points[np.maximum(n_safe - 1, 0)], reserve.u_floor)
        return np.minimum(u, np.maximum(largest, reserve.u_floor))
