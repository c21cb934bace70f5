"""Constant, ramp and pacing against their formulas; and what holds for every policy that ships as an example."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.control import (
    SIGNALS,
    ConstantPolicy,
    Governed,
    Observation,
    PacingPolicy,
    Policy,
    SocRampPolicy,
    read_policy,
)

EXAMPLES = sorted((Path(__file__).resolve().parents[2] / "examples" / "policies").glob("*.toml"))


def decide_once(policy: Policy[Any], **signals: Any) -> tuple[Any, list[str]]:
    decision, _ = policy.decide(Observation.of(time_s=0.0, **signals), policy.initial_state(1))
    return decision.u, [policy.reasons[code] for code in decision.reason]


def test_constant_says_the_same_whatever_it_sees() -> None:
    assert decide_once(ConstantPolicy(0.3)) == (0.3, ["constant"])
    with pytest.raises(ValueError, match=r"^u must lie in \[0, 1\], got -1$"):
        ConstantPolicy(-1)


def test_the_ramp_is_linear_between_its_points_and_level_outside() -> None:
    policy = SocRampPolicy(empty_soc=0.25, full_soc=0.75, empty_u=0.1, full_u=0.9)
    for soc, u in [(0.0, 0.1), (0.25, 0.1), (0.5, 0.5), (0.75, 0.9), (1.0, 0.9)]:
        answer, reasons = decide_once(policy, soc=soc)
        assert (answer[0], reasons) == (pytest.approx(u, abs=1e-15), ["soc_ramp"])
    answer, reasons = decide_once(policy)
    assert np.isnan(answer[0])
    assert reasons == ["unknown_soc"]


PACING = {"battery_wh": 100.0, "idle_w": 2.0, "compute_w": 8.0, "expected_harvest_w": 5.0}


def test_pacing_spends_the_income_and_the_surplus() -> None:
    policy = PacingPolicy(**PACING, target_soc=0.6, horizon_h=10.0)
    for soc in (0.5, 0.6, 0.9):
        answer, reasons = decide_once(policy, soc=soc, power_in_w=40.0)
        assert answer[0] == pytest.approx((5.0 + (soc - 0.6) * 100.0 / 10.0 - 2.0) / 8.0, rel=1e-12)
        assert reasons == ["pacing"]
    assert decide_once(policy, soc=0.0)[0][0] == 0.0
    assert decide_once(policy, soc=1.0, power_in_w=None)[0][0] == pytest.approx((5.0 + 4.0 - 2.0) / 8.0)
    answer, reasons = decide_once(policy, power_in_w=40.0)
    assert np.isnan(answer[0])
    assert reasons == ["unknown_soc"]


@pytest.mark.parametrize("step_s", [60.0, 600.0, 7200.0])
def test_the_average_of_pacing_is_over_seconds_not_steps(step_s: float) -> None:
    policy = PacingPolicy(**PACING, harvest_time_constant_h=2.0)
    state = policy.initial_state(1)
    for time_s in np.arange(0.0, 4 * 3600.0 + 1.0, step_s):
        _, state = policy.decide(Observation.of(time_s=time_s, soc=0.5, power_in_w=9.0), state)
    expected = 9.0 + (5.0 - 9.0) * math.exp(-4.0 / 2.0)  # four hours at a constant income
    assert state.harvest_w[0] == pytest.approx(expected, rel=1e-12)


def test_an_unknown_income_leaves_the_average_and_a_clock_set_back_too() -> None:
    policy = PacingPolicy(**PACING)
    state = policy.initial_state(1)
    for time_s, power_in_w in [(0.0, 9.0), (3600.0, None), (100.0, 9.0)]:
        _, state = policy.decide(Observation.of(time_s=time_s, soc=0.5, power_in_w=power_in_w), state)
        assert state.harvest_w[0] == 5.0
    _, state = policy.decide(Observation.of(time_s=1e9, soc=0.5, power_in_w=9.0), state)
    assert state.harvest_w[0] == 9.0  # a clock that jumped ahead forgets, no more


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SocRampPolicy(empty_soc=0.8, full_soc=0.2), r"^full_soc must be above empty_soc 0\.8, got 0\.2$"),
        (lambda: SocRampPolicy(empty_u=0.8, full_u=0.2), r"^full_u must not be below empty_u 0\.8, got 0\.2$"),
        (lambda: SocRampPolicy(full_soc=80), r"^full_soc must lie in \[0, 1\] .*; for 80 % write 0\.8$"),
        (lambda: PacingPolicy(**{**PACING, "battery_wh": 0.0}), r"^battery_wh must be above 0, got 0$"),
        (lambda: PacingPolicy(**{**PACING, "idle_w": -1.0}), r"^idle_w must not be negative, got -1$"),
        (lambda: PacingPolicy(**PACING, target_soc=60), r"^target_soc must lie in \[0, 1\] .*; for 60 % write 0\.6$"),
    ],
)
def test_a_setting_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


# Every example -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def governed(request: pytest.FixtureRequest) -> Governed[Any]:
    return read_policy(request.param)


def test_there_is_an_example_of_every_kind() -> None:
    assert {path.stem for path in EXAMPLES} == {
        "activity",
        "constant",
        "lyapunov",
        "mpc",
        "pacing",
        "pole_camera",
        "price",
        "soc_ramp",
        "thresholds",
    }


ALL_KNOWN = {"soc": 0.6, "on_mains": 0.0, "power_in_w": 8.0, "lux": 500.0, "confidence": 0.4, "temperature_c": 40.0,
             "hour": 12.0, "day_of_year": 172.0, "workload": 1.0, "last_u": 0.5}  # fmt: skip


def test_with_every_signal_known_a_rule_and_not_the_unknown_decides(governed: Governed[Any]) -> None:
    (u,), (reason,) = decide_once(governed, **ALL_KNOWN)
    assert 0.0 <= u <= 1.0
    assert not reason.startswith("unknown_")


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_is_missing_makes_a_declared_answer_or_makes_no_difference(
    governed: Governed[Any], name: str
) -> None:
    (u,), (reason,) = decide_once(governed, **{**ALL_KNOWN, name: None})
    if name not in governed.signals:
        assert (u, [reason]) == decide_once(governed, **ALL_KNOWN)
    elif reason == f"unknown_{name}":
        assert u == governed.settings.unknown_u
    else:  # the file has an answer of its own, or u does not hang on this signal here
        assert reason in {"pacing", "price", "mpc", "no_answer_yet", "doubt", "warm", "governor_thermal"}
    assert decide_once(governed, **{**ALL_KNOWN, name: math.nan}) == ([u], [reason])


@pytest.mark.parametrize("name", ["soc", "lux", "hour"])
def test_the_pole_camera_declares_u_for_each_signal_it_cannot_do_without(name: str) -> None:
    governed = read_policy(next(path for path in EXAMPLES if path.stem == "pole_camera"))
    assert decide_once(governed, **{**ALL_KNOWN, name: None}) == ([0.2], [f"unknown_{name}"])


readings = {name: st.floats(s.low, s.high) | st.just(math.nan) for name, s in SIGNALS.items()}


@given(
    st.sampled_from(EXAMPLES),
    st.lists(
        st.tuples(
            st.floats(-100, 4000),
            st.fixed_dictionaries({k: st.lists(v, min_size=5, max_size=5) for k, v in readings.items()}),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_a_batch_equals_one_by_one_bit_for_bit(path: Path, history: list[tuple[float, dict[str, Any]]]) -> None:
    governed = READ[path]
    batch, alone = governed.initial_state(5), [governed.initial_state(1) for _ in range(5)]
    time_s = 0.0
    for seconds, signals in history:
        time_s += seconds
        decision, batch = governed.decide(Observation.of(time_s=time_s, **signals), batch)
        assert ((decision.u >= 0.0) & (decision.u <= 1.0)).all()
        for i in range(5):
            one: dict[str, Any] = {name: values[i] for name, values in signals.items()}
            own = Observation.of(time_s=time_s, **one)
            single, alone[i] = governed.decide(own, alone[i])
            assert single.u.tobytes() == decision.u[i : i + 1].tobytes()
            assert single.reason[0] == decision.reason[i]


READ = {path: read_policy(path) for path in EXAMPLES}
