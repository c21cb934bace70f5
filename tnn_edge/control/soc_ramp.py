"""More throttle the fuller the battery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision
from tnn_edge.throttle import check_throttle

__all__ = ["SocRampPolicy"]


@dataclass(frozen=True, kw_only=True)
class SocRampPolicy:
    """Linear in the state of charge between two points, level outside them.

    Attributes:
        empty_soc: state of charge at and below which u is `empty_u`.
        full_soc: state of charge at and above which u is `full_u`.
        empty_u: throttle of an empty battery.
        full_u: throttle of a full battery.
    """

    empty_soc: float = 0.2
    full_soc: float = 0.8
    empty_u: float = 0.0
    full_u: float = 1.0

    def __post_init__(self) -> None:
        check_value("empty_soc", "soc", self.empty_soc)
        check_value("full_soc", "soc", self.full_soc)
        check_throttle(self.empty_u, "empty_u")
        check_throttle(self.full_u, "full_u")
        if not self.empty_soc < self.full_soc:
            raise ValueError(f"full_soc must be above empty_soc {self.empty_soc:g}, got {self.full_soc:g}")
        if not self.empty_u <= self.full_u:
            raise ValueError(f"full_u must not be below empty_u {self.empty_u:g}, got {self.full_u:g}")

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("soc_ramp", "unknown_soc")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc"})

    def initial_state(self, _n: int) -> None:
        return None

    def decide(self, observation: Observation, _state: None) -> tuple[Decision, None]:
        u = np.interp(observation["soc"], [self.empty_soc, self.full_soc], [self.empty_u, self.full_u])
        return Decision(u, np.isnan(u).astype(np.intp)), None
