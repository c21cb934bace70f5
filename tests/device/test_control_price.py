"""The price policy against its formulas, a plain search, and what a price must do."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.conftest import WritePolicy
from tnn_edge.control import DeviceProfile, Observation, PricePolicy, read_policy, reference_profile
from tnn_edge.errors import ConfigError

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "price.toml"
POLICY = PricePolicy(battery_wh=100.0, expected_harvest_w=4.0)
BARGAIN = DeviceProfile(  # not concave, two points of equal power, no accuracy to be had in the dark
    u=np.array([0.0, 0.3, 0.5, 1.0]),
    power_w=np.array([1.0, 1.0, 2.0, 4.0]),
    idle_w=1.5,
    lux=np.array([1.0, 1000.0]),
    accuracy=np.array([[0.1, 0.4], [0.1, 0.5], [0.1, 0.5], [0.1, 0.9]]),
    confidence=np.full((4, 2), 0.5),
    source="test",
    is_modelled=True,
)
POLICIES = [
    POLICY,
    PricePolicy(battery_wh=40.0, expected_harvest_w=9.0, profile=BARGAIN, base_workload=0.0, converter_efficiency=0.7),
]

shares = st.floats(0.0, 1.0)
lights = st.floats(0.0, 200_000.0)


def seen(*, time_s: float = 0.0, **signals: Any) -> Observation:
    return Observation.of(time_s=time_s, **{"soc": 0.5, "lux": 300.0, "workload": 1.0, "power_in_w": 5.0, **signals})


def u_at(policy: PricePolicy, log_price: float, **signals: Any) -> float:
    return float(policy.at_price(seen(**signals), np.array([log_price])).u[0])


def u_of(policy: PricePolicy, **signals: Any) -> float:
    observation = seen(**signals)
    decision, _ = policy.decide(observation, policy.initial_state(len(observation)))
    return float(decision.u[0])


@pytest.mark.parametrize("soc", [0.1, 0.6, 0.9])
def test_the_price_is_log_linear_in_the_budget(soc: float) -> None:
    policy = PricePolicy(
        battery_wh=100.0, expected_harvest_w=4.0, price_at_zero_per_wh=20.0, price_slope=2.5,
        target_soc=0.5, horizon_h=40.0, converter_efficiency=0.8,
    )  # fmt: skip
    budget = (4.0 + (soc - 0.5) * 100.0 / 40.0 - 2.2 / 0.8) / (7.8 / 0.8)
    log_price, _ = policy.log_price(seen(soc=soc), policy.initial_state(1))
    assert log_price[0] == pytest.approx(math.log(20.0) - 2.5 * budget, rel=1e-12)


@pytest.mark.parametrize(("battery_wh", "share"), [(1e6, 1.0), (-1e6, -1.0)])
def test_the_budget_is_bounded(battery_wh: float, share: float) -> None:
    policy = dataclasses.replace(POLICY, battery_wh=abs(battery_wh), target_soc=0.5)
    log_price, _ = policy.log_price(seen(soc=0.5 + math.copysign(0.5, battery_wh)), policy.initial_state(1))
    assert log_price[0] == pytest.approx(math.log(20.0) - 7.0 * share)


@given(st.sampled_from(POLICIES), st.floats(-5.0, 8.0), shares, lights)
def test_u_is_what_a_plain_search_finds(policy: PricePolicy, log_price: float, workload: float, lux: float) -> None:
    profile = policy.profile
    value = policy.full_events_per_h * max(0.0, (workload - policy.base_workload) / (1.0 - policy.base_workload))
    price = math.exp(log_price) * workload
    gains = [
        value * profile.accuracy_at([lux])[0, i] - price * profile.power_w[i] for i in range(len(profile.u))
    ]  # fmt: skip
    u = u_at(policy, log_price, workload=workload, lux=lux)
    chosen = int(profile.point_at(u))
    assert profile.u[chosen] == u
    assert gains[chosen] >= max(gains) - 1e-12 * max(map(abs, gains))


def test_of_two_points_that_are_worth_the_same_the_lower_is_taken() -> None:
    flat = dataclasses.replace(BARGAIN, accuracy=np.full((4, 2), 0.5))
    policy = dataclasses.replace(POLICY, profile=flat)
    assert u_at(policy, -math.inf) == 0.0  # energy for nothing
    assert u_at(dataclasses.replace(POLICY, profile=BARGAIN), 0.0, lux=1.0) == 0.0  # equal in power and accuracy


@given(st.sampled_from(POLICIES), shares, shares, lights, shares)
def test_u_never_falls_as_the_battery_fills(
    policy: PricePolicy, soc: float, other: float, lux: float, workload: float
) -> None:
    low, high = sorted((soc, other))
    if high - low > 1e-9:
        assert u_of(policy, soc=low, lux=lux, workload=workload) <= u_of(policy, soc=high, lux=lux, workload=workload)


@given(st.sampled_from(POLICIES), st.floats(-5.0, 9.0), st.floats(1e-9, 9.0), lights, shares)
def test_u_never_rises_with_the_price(
    policy: PricePolicy, log_price: float, rise: float, lux: float, workload: float
) -> None:
    cheap, dear = (u_at(policy, each, lux=lux, workload=workload) for each in (log_price, log_price + rise))
    assert dear <= cheap


@pytest.mark.parametrize("workload", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("soc", [0.0, 1.0])
def test_where_there_is_nothing_to_see_u_is_the_lowest(workload: float, soc: float) -> None:
    assert u_of(POLICY, soc=soc, workload=workload) == 0.0


@pytest.mark.parametrize(
    ("names", "told"), [(("workload",), "workload"), (("lux", "workload"), "lux"), (("soc",), "soc")]
)
def test_u_is_unknown_with_a_signal_it_needs(names: tuple[str, ...], told: str) -> None:
    unknown: dict[str, Any] = dict.fromkeys(names)
    decision, _ = POLICY.decide(seen(**unknown), POLICY.initial_state(1))
    assert np.isnan(decision.u[0])
    assert POLICY.reasons[decision.reason[0]] == f"unknown_{told}"


def test_devices_that_lack_nothing_are_not_touched_by_one_that_does() -> None:
    decision, _ = POLICY.decide(seen(soc=[0.5, math.nan, 0.9]), POLICY.initial_state(3))
    assert [POLICY.reasons[code] for code in decision.reason] == ["price", "unknown_soc", "price"]
    assert decision.u[[0, 2]].tolist() == [u_of(POLICY, soc=0.5), u_of(POLICY, soc=0.9)]


@pytest.mark.parametrize("step_s", [60.0, 900.0, 7200.0])
def test_the_average_of_the_income_is_over_seconds_not_steps(step_s: float) -> None:
    policy = dataclasses.replace(POLICY, harvest_time_constant_h=3.0)
    state = policy.initial_state(1)
    for time_s in np.arange(0.0, 4 * 3600.0 + 1.0, step_s):
        _, state = policy.decide(seen(time_s=float(time_s), power_in_w=9.0), state)
    assert state.harvest_w[0] == pytest.approx(9.0 + (4.0 - 9.0) * math.exp(-4.0 / 3.0), rel=1e-12)


def test_a_clock_that_was_set_back_and_an_unknown_income_change_no_price() -> None:
    state = POLICY.initial_state(1)
    first, state = POLICY.log_price(seen(time_s=5000.0), state)
    for time_s, power_in_w in [(100.0, 30.0), (9000.0, None)]:
        log_price, state = POLICY.log_price(seen(time_s=time_s, power_in_w=power_in_w), state)
        assert log_price == first


def test_a_price_moved_by_nothing_is_the_policy_itself() -> None:
    rng = np.random.default_rng(3)
    observation = seen(soc=rng.random(200), lux=10.0 ** rng.uniform(-1, 5, 200), workload=rng.random(200))
    decision, after = POLICY.decide(observation, POLICY.initial_state(200))
    log_price, heard = POLICY.log_price(observation, POLICY.initial_state(200))
    moved = POLICY.at_price(observation, log_price + 0.0)
    np.testing.assert_array_equal(moved.u, decision.u)
    np.testing.assert_array_equal(moved.reason, decision.reason)
    np.testing.assert_array_equal(heard.harvest_w, after.harvest_w)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"battery_wh": 0.0}, "battery_wh must be a finite number above 0, got 0"),
        ({"price_at_zero_per_wh": -1.0}, "price_at_zero_per_wh must be a finite number above 0, got -1"),
        ({"price_slope": -1.0}, "price_slope must be finite and not negative, got -1"),
        ({"target_soc": 60.0}, "target_soc must lie in [0, 1] (soc in share), got 60; for 60 % write 0.6"),
        ({"base_workload": 1.0}, "base_workload must lie in [0, 1), got 1"),
        ({"converter_efficiency": 90.0}, "converter_efficiency must lie in (0, 1], got 90"),
        ({"full_events_per_h": 0.0}, "full_events_per_h must be a finite number above 0, got 0"),
    ],
)
def test_a_setting_out_of_range_is_refused(write_policy: WritePolicy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(POLICY, **changes)
    (key,) = changes
    settings = {"battery_wh": 100.0, "expected_harvest_w": 5.0, **changes}
    path = write_policy("\n".join(["governor.unknown_u = 0", "[price]", *(f"{k} = {v}" for k, v in settings.items())]))
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    line = 3 + list(settings).index(key)
    assert str(caught.value) == f"{path}:{line}: price.{key}: {message}"


# Files ---------------------------------------------------------------------------------------------------------------

PROFILE = """
source = "bench"
is_modelled = false
idle_w = 1.5
u = [0.0, 1.0]
power_w = [0.5, 4.0]
lux = [1.0, 100.0]
accuracy = [[0.2, 0.6], [0.4, 0.8]]
confidence = [[0.3, 0.6], [0.5, 0.8]]
"""
TABLE = "governor.unknown_u = 0\n[price]\nbattery_wh = 100\nexpected_harvest_w = 5\n"


def test_a_file_makes_the_policy_it_says() -> None:
    policy = read_policy(EXAMPLE).policy
    assert isinstance(policy, PricePolicy)
    assert policy == PricePolicy(battery_wh=120.0, expected_harvest_w=5.0, profile=policy.profile)
    np.testing.assert_array_equal(policy.profile.accuracy, reference_profile().accuracy)


def test_a_profile_is_read_from_beside_the_policy(write_policy: WritePolicy, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PROFILE)
    policy = read_policy(write_policy(TABLE + "profile = 'mine.toml'")).policy
    assert isinstance(policy, PricePolicy)
    assert policy.profile.source == "bench"


def test_faults_of_a_profile_join_those_of_the_policy(write_policy: WritePolicy, tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(PROFILE.replace("idle_w", "idel_w"))
    path = write_policy(TABLE + "target_soc = 60\nprofile = 'mine.toml'")
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    about = "missing: power in W with the camera on and the network idle"
    assert str(caught.value).split("\n") == [
        f"{path}:5: price.target_soc: target_soc must lie in [0, 1] (soc in share), got 60; for 60 % write 0.6",
        f"{path}:6: price.profile: {tmp_path / 'mine.toml'}:1: idle_w: {about}",
        f"{path}:6: price.profile: {tmp_path / 'mine.toml'}:4: idel_w: unknown key; did you mean idle_w?",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("battery_hw = 3", "5: price.battery_hw: unknown key; did you mean battery_wh?"),
        ("horizon_h = '1 day'", '5: price.horizon_h: must be a valid number, got "1 day"'),
        ("profile = 3", "5: price.profile: must be a valid string, got 3"),
        (
            "profile = 'no.toml'",
            (
                "5: price.profile: there is no file {folder}/no.toml; a relative path begins beside this file; "
                '"reference" is the built-in profile'
            ),
        ),
    ],
)
def test_a_faulty_file_is_refused_with_its_line(
    write_policy: WritePolicy, tmp_path: Path, line: str, fault: str
) -> None:
    path = write_policy(TABLE + line)
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert str(caught.value) == f"{path}:{fault.format(folder=tmp_path)}"


def test_what_is_missing_is_told_with_its_meaning(write_policy: WritePolicy) -> None:
    path = write_policy(TABLE.replace("battery_wh = 100\n", ""))
    with pytest.raises(ConfigError, match=r":2: price\.battery_wh: missing: usable energy of the battery$"):
        read_policy(path)
