"""One throttle for ever."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tnn_edge.control.observation import Observation
from tnn_edge.control.policy import Decision
from tnn_edge.throttle import check_throttle

__all__ = ["ConstantPolicy"]


@dataclass(frozen=True)
class ConstantPolicy:
    """The same u, whatever is observed.

    Attributes:
        u: the throttle, in [0, 1].
    """

    u: float

    def __post_init__(self) -> None:
        check_throttle(self.u, "u")

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("constant",)

    @property
    def signals(self) -> frozenset[str]:
        return frozenset()

    def initial_state(self, _n: int) -> None:
        return None

    def decide(self, observation: Observation, _state: None) -> tuple[Decision, None]:
        n = len(observation)
        return Decision(np.full(n, self.u), np.zeros(n, np.intp)), None
