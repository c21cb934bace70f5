"""Conditions in few words, and one device under a policy, step by step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tnn_edge.control import Observation, Policy, Within

INF = math.inf

Steps = Sequence[tuple[float, Mapping[str, Any]]]
"""Time in seconds, and what is seen then."""


def below(signal: str, value: float, until: float | None = None) -> Within:
    return Within(
        signal=signal, enter_low=-INF, enter_high=value, leave_low=-INF, leave_high=value if until is None else until
    )


def above(signal: str, value: float, until: float | None = None) -> Within:
    return Within(
        signal=signal, enter_low=value, enter_high=INF, leave_low=value if until is None else until, leave_high=INF
    )


def between(signal: str, low: float, high: float) -> Within:
    return Within(signal=signal, enter_low=low, enter_high=high, leave_low=low, leave_high=high)


def answers_of(policy: Policy[Any], steps: Steps) -> list[tuple[float, str]]:
    """U and reason of one device at each (time, signals)."""
    state = policy.initial_state(1)
    answers = []
    for time_s, signals in steps:
        decision, state = policy.decide(Observation.of(time_s=time_s, **signals), state)
        answers.append((float(decision.u[0]), policy.reasons[decision.reason[0]]))
    return answers
