"""The activity rule against its formula."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.conftest import WritePolicy
from tnn_edge.control import ActivityPolicy, Observation, read_policy
from tnn_edge.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "activity.toml"
POLICY = ActivityPolicy(detection_workload=0.5, time_constant_h=2.0, lowest_u=0.2)


def answers(policy: ActivityPolicy, history: list[tuple[float, float | None]]) -> list[tuple[float, str]]:
    """U and reason at each (hour, workload)."""
    state, told = policy.initial_state(1), []
    for hour, workload in history:
        decision, state = policy.decide(Observation.of(time_s=3600.0 * hour, workload=workload), state)
        told.append((float(decision.u[0]), policy.reasons[decision.reason[0]]))
    return told


def test_u_is_one_on_a_detection_and_fades_after_it() -> None:
    (during, first), (after, second), (later, third) = answers(POLICY, [(0.0, 0.8), (1.0, 0.1), (3.0, 0.0)])
    assert (during, first, second, third) == (1.0, "detection", "activity", "activity")
    activity = 0.8 + (1.0 - math.exp(-1.0 / 2.0)) * (0.1 - 0.8)
    assert after == pytest.approx(0.2 + 0.8 * activity, rel=1e-12)
    assert later == pytest.approx(0.2 + 0.8 * activity * math.exp(-2.0 / 2.0), rel=1e-12)


def test_the_workload_of_a_detection_is_one_itself() -> None:
    assert answers(POLICY, [(0.0, 0.5)]) == [(1.0, "detection")]
    ((u, reason),) = answers(POLICY, [(0.0, math.nextafter(0.5, 0.0))])
    assert u == pytest.approx(0.2 + 0.8 * 0.5)
    assert reason == "activity"


@pytest.mark.parametrize("step_h", [0.01, 0.25, 2.0])
def test_the_past_fades_over_hours_not_steps(step_h: float) -> None:
    hours = np.arange(0.0, 4.0 + step_h / 2, step_h)
    told = answers(POLICY, [(float(hour), 0.4 if hour == 0.0 else 0.1) for hour in hours])
    assert told[-1][0] == pytest.approx(0.2 + 0.8 * (0.1 + 0.3 * math.exp(-4.0 / 2.0)), rel=1e-12)


def test_an_unknown_workload_is_told_and_changes_nothing() -> None:
    told = answers(POLICY, [(0.0, 0.4), (1.0, None), (1.0, 0.4)])
    assert math.isnan(told[1][0])
    assert told[1][1] == "unknown_workload"
    assert told[2] == told[0]


def test_a_clock_that_was_set_back_lets_no_time_pass() -> None:
    told = answers(POLICY, [(5.0, 0.4), (1.0, 0.0)])
    assert told[1] == told[0]


@given(st.lists(st.tuples(st.floats(0.0, 10.0), st.floats(0.0, 1.0)), min_size=1, max_size=8))
def test_u_lies_between_the_lowest_and_one(history: list[tuple[float, float]]) -> None:
    hours = np.cumsum([step for step, _ in history])
    for u, _ in answers(POLICY, [(float(hour), workload) for hour, (_, workload) in zip(hours, history, strict=True)]):
        assert 0.2 <= u <= 1.0


def test_a_file_makes_the_policy_it_says() -> None:
    assert read_policy(EXAMPLE).policy == ActivityPolicy(detection_workload=0.5, time_constant_h=1.0, lowest_u=0.1)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (
            "detection_workload = 50",
            "detection_workload must lie in [0, 1] (workload in share), got 50; for 50 % write",
        ),
        ("time_constant_h = 0", "time_constant_h must be a finite number above 0, got 0"),
        ("lowest_u = -1", "lowest_u must lie in [0, 1], got -1"),
        ("lowestu = 1", "unknown key; did you mean lowest_u?"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(write_policy: WritePolicy, line: str, fault: str) -> None:
    path = write_policy(f"governor.unknown_u = 0\n[activity]\n{line}\n")
    with pytest.raises(ConfigError, match=rf":3: activity\.{line.split(maxsplit=1)[0]}: {re.escape(fault)}"):
        read_policy(path)
