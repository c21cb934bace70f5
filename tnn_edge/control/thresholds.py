"""Steps over the state of charge, each with hysteresis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision
from tnn_edge.throttle import check_throttle

__all__ = ["ThresholdPolicy", "ThresholdStep"]

Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class ThresholdStep:
    """A step of u.

    Attributes:
        above_soc: state of charge at and above which it is taken.
        until_soc: state of charge below which it is left again; at most `above_soc`.
        u: throttle on it.
    """

    above_soc: float
    until_soc: float
    u: float

    def __post_init__(self) -> None:
        check_value("above_soc", "soc", self.above_soc)
        check_value("until_soc", "soc", self.until_soc)
        check_throttle(self.u, "u")
        if not self.until_soc <= self.above_soc:
            raise ValueError(f"until_soc must not be above above_soc {self.above_soc:g}, got {self.until_soc:g}")


@dataclass(frozen=True, kw_only=True)
class ThresholdPolicy:
    """The u of the highest step that is taken, `lowest_u` where none is.

    Attributes:
        steps: with rising `above_soc` and u, as tables { above_soc = ..., until_soc = ..., u = ... }.
        lowest_u: throttle below all of them.
    """

    steps: Sequence[ThresholdStep]
    lowest_u: float = 0.0

    def __post_init__(self) -> None:
        check_throttle(self.lowest_u, "lowest_u")
        if not self.steps:
            raise ValueError("steps must hold at least one step { above_soc = 0.5, until_soc = 0.4, u = 1.0 }")
        charges = [step.above_soc for step in self.steps]
        throttles = [self.lowest_u, *(step.u for step in self.steps)]
        if charges != sorted(set(charges)) or throttles != sorted(throttles):
            raise ValueError(f"steps must rise in above_soc and u, got above_soc {charges}, u {throttles}")

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("thresholds", "unknown_soc")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc"})

    def initial_state(self, n: int) -> Bools:
        """Whether each step is taken, shape [n, n_steps]."""
        return np.zeros((n, len(self.steps)), np.bool_)

    def decide(self, observation: Observation, state: Bools) -> tuple[Decision, Bools]:
        soc = observation["soc"][:, None]
        above = np.array([step.above_soc for step in self.steps])
        until = np.array([step.until_soc for step in self.steps])
        is_known = ~np.isnan(soc)
        taken = np.where(is_known, (soc >= above) | (state & (soc >= until)), state)
        throttles = np.array([self.lowest_u, *(step.u for step in self.steps)])
        highest = np.where(taken, np.arange(1, len(self.steps) + 1), 0).max(axis=1)
        u = np.where(is_known[:, 0], throttles[highest], np.nan)
        return Decision(u, np.isnan(u).astype(np.intp)), taken
