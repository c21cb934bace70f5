"""What every policy is: n observations and a state in, n throttles with their reasons and the next state out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import SIGNALS, Observation

__all__ = ["UNKNOWN_REASONS", "Decision", "Policy"]

S = TypeVar("S")

UNKNOWN_REASONS = tuple(f"unknown_{name}" for name in SIGNALS)
"""Reason codes of decisions that a policy could not make for want of a signal, in the order of the table."""


@dataclass(frozen=True, eq=False)
class Decision:
    """The throttles of n devices, and why.

    Attributes:
        u: throttle in [0, 1], float64, shape [n]; NaN where the policy lacks a signal it needs.
        reason: index into the policy's `reasons`, shape [n]; where u is NaN it says which signal is lacking.
    """

    u: npt.NDArray[np.float64]
    reason: npt.NDArray[np.intp]


class Policy(Protocol[S]):
    """Observation to throttle, the same object in simulation (n devices) and on a device (n = 1).

    A policy holds settings only; what it remembers is in the state, which `decide` returns anew and never changes.
    Device i's throttle hangs on device i's signals and state alone. Time constants are in seconds.

    Attributes:
        reasons: the reason codes that its decisions index, all different.
        signals: the signals that it reads.
    """

    @property
    def reasons(self) -> tuple[str, ...]: ...

    @property
    def signals(self) -> frozenset[str]: ...

    def initial_state(self, n: int, /) -> S:
        """State of n devices before their first decision."""
        ...

    def decide(self, observation: Observation, state: S, /) -> tuple[Decision, S]:
        """Decide for n devices."""
        ...
