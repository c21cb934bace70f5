"""Drift plus penalty: events answered right against the pull of a battery below its target."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from tnn_edge.control.device_profile import DeviceProfile, reference_profile
from tnn_edge.control.marginal_value import LACKS, MarginalValue
from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision

__all__ = ["LyapunovPolicy"]


@dataclass(frozen=True, kw_only=True)
class LyapunovPolicy:
    """u = argmax v events_per_h accuracy(u, lux) - q workload power_w(u), q = max(0, target_soc - soc) battery_wh.

    Yu & Neely, "Learning Aided Optimization for Energy Harvesting Devices with Outdated State Information"
    (arXiv 1801.03572): the price of energy is the virtual queue q over v. It needs no forecast and no average, and is
    within O(1/v) of the best rule that forgets, with a battery of O(v).

    Attributes:
        battery_wh: usable energy of the battery.
        v_wh2_per_event: weight of an event, in Wh squared, for q is in Wh; the larger, the lower the battery runs, > 0.
        target_soc: state of charge from which on energy is free.
        base_workload: the signal `workload` while nothing happens.
        full_events_per_h: events an hour that make a workload of 1.
        profile: what each operating point draws, and how well it answers by light.
    """

    battery_wh: float
    v_wh2_per_event: float
    target_soc: float = 0.95
    base_workload: float = 0.25
    full_events_per_h: float = 240.0
    profile: DeviceProfile = field(default_factory=reference_profile)

    def __post_init__(self) -> None:
        for name in ("battery_wh", "v_wh2_per_event"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        check_value("target_soc", "soc", self.target_soc)
        self.marginal_value()  # checks the rest

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("lyapunov", *LACKS)

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc", "lux", "workload"})

    def initial_state(self, _n: int) -> None:
        return None

    def marginal_value(self) -> MarginalValue:
        """How events are weighed against energy."""
        return MarginalValue(
            profile=self.profile, base_workload=self.base_workload, full_events_per_h=self.full_events_per_h
        )

    def decide(self, observation: Observation, _state: None) -> tuple[Decision, None]:
        queue_wh = np.maximum(self.target_soc - observation["soc"], 0.0) * self.battery_wh
        return self.marginal_value().decide(observation, queue_wh / self.v_wh2_per_event), None
