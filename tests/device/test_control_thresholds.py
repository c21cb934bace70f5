"""Steps over the state of charge, against a plain version for one device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.conftest import WritePolicy
from tnn_edge.control import Observation, ThresholdPolicy, ThresholdStep, read_policy
from tnn_edge.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "thresholds.toml"
STEPS = [
    ThresholdStep(above_soc=0.3, until_soc=0.25, u=0.3),
    ThresholdStep(above_soc=0.5, until_soc=0.2, u=0.6),  # kept for longer than the step below it
    ThresholdStep(above_soc=0.8, until_soc=0.8, u=1.0),  # without hysteresis
]
POLICY = ThresholdPolicy(steps=STEPS, lowest_u=0.1)


def answers(policy: ThresholdPolicy, charges: Sequence[float]) -> list[float]:
    state, us = policy.initial_state(1), []
    for time_s, soc in enumerate(charges):
        decision, state = policy.decide(Observation.of(time_s=float(time_s), soc=soc), state)
        us.append(float(decision.u[0]))
    return us


def plain(policy: ThresholdPolicy, charges: Sequence[float]) -> list[float]:
    """The same, step by step for one device."""
    taken, us = set[int](), []
    for soc in charges:
        for i, step in enumerate(policy.steps):
            if soc >= step.above_soc:
                taken.add(i)
            elif soc < step.until_soc:
                taken.discard(i)
        us.append(math.nan if math.isnan(soc) else policy.steps[max(taken)].u if taken else policy.lowest_u)
    return us


@given(st.lists(st.sampled_from([0.0, 0.2, 0.24, 0.25, 0.27, 0.3, 0.4, 0.5, 0.79, 0.8, 1.0, math.nan]), max_size=20))
def test_steps_are_taken_and_left_as_a_plain_version_does(charges: list[float]) -> None:
    np.testing.assert_array_equal(answers(POLICY, charges), plain(POLICY, charges))


def test_a_step_is_kept_down_to_where_it_is_left() -> None:
    assert answers(POLICY, [0.1, 0.3, 0.26, 0.24, 0.29]) == [0.1, 0.3, 0.3, 0.1, 0.1]
    assert answers(POLICY, [0.5, 0.21, 0.19]) == [0.6, 0.6, 0.1]
    assert answers(POLICY, [0.8, math.nextafter(0.8, 0.0)]) == [1.0, 0.6]


def test_an_unknown_charge_is_told_and_forgets_no_step() -> None:
    us = answers(POLICY, [0.3, math.nan, 0.26])
    assert us[::2] == [0.3, 0.3]
    decision, _ = POLICY.decide(Observation.of(time_s=0.0), POLICY.initial_state(1))
    assert (math.isnan(decision.u[0]), POLICY.reasons[decision.reason[0]]) == (True, "unknown_soc")


@given(st.lists(st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3), min_size=1, max_size=6))
def test_u_of_two_devices_with_one_past_never_falls_with_charge(history: list[list[float]]) -> None:
    state = POLICY.initial_state(2)
    for past in history:
        _, state = POLICY.decide(Observation.of(time_s=0.0, n=2, soc=past[0]), state)
    low, high = sorted(history[-1][1:])
    decision, _ = POLICY.decide(Observation.of(time_s=0.0, soc=[low, high]), state)
    assert decision.u[0] <= decision.u[1]


def test_a_file_makes_the_steps_it_says() -> None:
    policy = read_policy(EXAMPLE).policy
    assert policy == ThresholdPolicy(
        steps=[
            ThresholdStep(above_soc=0.3, until_soc=0.25, u=0.3),
            ThresholdStep(above_soc=0.5, until_soc=0.45, u=0.6),
            ThresholdStep(above_soc=0.8, until_soc=0.7, u=1.0),
        ],
        lowest_u=0.0,
    )


@pytest.mark.parametrize(
    ("table", "line", "fault"),
    [
        ("lowest_u = 0", 2, "thresholds.steps: missing: with rising `above_soc` and u, as tables { above_soc = ..."),
        ("steps = []", 3, "thresholds.steps: steps must hold at least one step { above_soc = 0.5, until_soc = 0.4"),
        (
            "steps = [\n{ above_soc = 0.5, until_soc = 0.6, u = 1 }]",
            4,
            "thresholds.steps[0].until_soc: until_soc must not be above above_soc 0.5, got 0.6",
        ),
        (
            "steps = [\n{ above_soc = 50, until_soc = 0.4, u = 1 }]",
            4,
            "thresholds.steps[0].above_soc: above_soc must lie in [0, 1] (soc in share), got 50; for 50 % write 0.5",
        ),
        (
            "steps = [\n{ abov_soc = 0.5, above_soc = 0.5, until_soc = 0.4, u = 1 }]",
            4,
            "thresholds.steps[0].abov_soc: unknown key; did you mean above_soc?",
        ),
        (
            "steps = [{ above_soc = 0.5, until_soc = 0.4, u = 1 }, { above_soc = 0.6, until_soc = 0.5, u = 0.5 }]",
            3,
            "thresholds.steps: steps must rise in above_soc and u, got above_soc [0.5, 0.6], u [0.0, 1.0, 0.5]",
        ),
        ("steps = [{ above_soc = 0.5, until_soc = 0.4, u = 2 }]", 3, "thresholds.steps[0].u: u must lie in [0, 1]"),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(write_policy: WritePolicy, table: str, line: int, fault: str) -> None:
    path = write_policy(f"governor.unknown_u = 0\n[thresholds]\n{table}\n")
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert str(caught.value).startswith(f"{path}:{line}: {fault}")
