"""Spend what comes in, and steer the battery to a target: energy-neutral operation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tnn_edge.control.harvest_average import HarvestAverage
from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision

__all__ = ["PacingPolicy"]


@dataclass(frozen=True, kw_only=True)
class PacingPolicy:
    """u at which average income plus surplus over the target equals spending, after Kansal et al. (2007).

    u = (harvest + (soc - target_soc) battery_wh / horizon_h - idle_w) / compute_w, where harvest is the exponential
    average of `power_in_w`. Where `power_in_w` is unknown the average stays as it is.

    Attributes:
        battery_wh: usable energy of the battery.
        idle_w: power at u = 0.
        compute_w: power on top at u = 1.
        expected_harvest_w: the average before anything was measured.
        target_soc: state of charge to steer to.
        horizon_h: hours in which a surplus or deficit is worked off.
        harvest_time_constant_h: time constant of the average; a day forgets the hour, not the season.
    """

    battery_wh: float
    idle_w: float
    compute_w: float
    expected_harvest_w: float
    target_soc: float = 0.6
    horizon_h: float = 24.0
    harvest_time_constant_h: float = 24.0

    def __post_init__(self) -> None:
        for name in ("battery_wh", "compute_w", "horizon_h", "harvest_time_constant_h"):
            if not (value := getattr(self, name)) > 0.0:
                raise ValueError(f"{name} must be above 0, got {value:g}")
        for name in ("idle_w", "expected_harvest_w"):
            if not (value := getattr(self, name)) >= 0.0:
                raise ValueError(f"{name} must not be negative, got {value:g}")
        check_value("target_soc", "soc", self.target_soc)

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("pacing", "unknown_soc")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc", "power_in_w"})

    def initial_state(self, n: int) -> HarvestAverage:
        return HarvestAverage.expecting(self.expected_harvest_w, n)

    def decide(self, observation: Observation, state: HarvestAverage) -> tuple[Decision, HarvestAverage]:
        average = state.after(observation, time_constant_h=self.harvest_time_constant_h)
        surplus_w = (observation["soc"] - self.target_soc) * self.battery_wh / self.horizon_h
        u = np.clip((average.harvest_w + surplus_w - self.idle_w) / self.compute_w, 0.0, 1.0)
        return Decision(u, np.isnan(u).astype(np.intp)), average
