"""Model-predictive control: the forecast, the table it plans with, the price of a plan, and what becomes of it."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device.conftest import WritePolicy
from tnn_edge.control import DeviceProfile, MpcPolicy, Observation, read_policy, reference_profile
from tnn_edge.control.demand import DemandTable
from tnn_edge.control.forecast import Experience
from tnn_edge.control.mpc import MpcState
from tnn_edge.errors import ConfigError
from tnn_edge.plant import Panel, Site

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "mpc.toml"
POLICY = MpcPolicy(battery_wh=120.0, panel_w=40.0, latitude_deg=36.0)
NIGHT = MpcPolicy(battery_wh=120.0, panel_w=40.0, latitude_deg=80.0, horizon_h=24.0, reserve_soc=0.2, end_soc=0.2)
"""Beyond the polar circle: in January no sun comes in."""

TINY = DeviceProfile(  # not concave, two points of equal power
    u=np.array([0.0, 0.3, 0.5, 1.0]),
    power_w=np.array([1.0, 1.0, 2.0, 4.0]),
    idle_w=1.5,
    lux=np.array([1.0, 1000.0]),
    accuracy=np.array([[0.1, 0.4], [0.1, 0.5], [0.2, 0.5], [0.1, 0.9]]),
    confidence=np.full((4, 2), 0.5),
    source="test",
    is_modelled=True,
)


def seen(*, time_s: float = 0.0, **signals: Any) -> Observation:
    known = {"soc": 0.5, "lux": 300.0, "workload": 1.0, "power_in_w": 5.0, "hour": 20.0, "day_of_year": 100.0}
    return Observation.of(time_s=time_s, **{**known, **signals})


def decide(policy: MpcPolicy, state: MpcState | None = None, **signals: Any) -> tuple[float, str, MpcState]:
    observation = seen(**signals)
    decision, after = policy.decide(observation, policy.initial_state(1) if state is None else state)
    return float(decision.u[0]), policy.reasons[decision.reason[0]], after


def price(policy: MpcPolicy, **signals: Any) -> float:
    return float(decide(policy, **signals)[2].price_per_wh[0])


# The table -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [reference_profile(), TINY], ids=["reference", "tiny"])
def test_demand_is_the_power_of_the_point_that_is_worth_most(profile: DeviceProfile) -> None:
    table = DemandTable.of(profile)
    log_price = np.asarray(table.low + table.step * (np.arange(0, table.power_w.shape[1], 37) + 1e-6), np.float64)
    for level, lux in enumerate(profile.lux):
        accuracy = profile.accuracy_at([lux])[0]
        rows = table.rows_at(np.full(len(log_price), float(level)))
        for each, power_w in zip(log_price, table.power_at(rows, log_price), strict=True):
            worth = accuracy - math.exp(each) * profile.power_w
            assert worth[profile.power_w == power_w].max() >= worth.max() - 1e-5


@pytest.mark.parametrize("profile", [reference_profile(), TINY], ids=["reference", "tiny"])
def test_demand_never_rises_with_the_price_from_all_that_is_worth_anything_to_the_least(profile: DeviceProfile) -> None:
    table = DemandTable.of(profile)
    assert (np.diff(table.power_w, axis=1) <= 0.0).all()
    assert (table.power_w[:, -1] == profile.power_w[0]).all()
    best = profile.accuracy[:, [0, -1]].argmax(axis=0)
    np.testing.assert_array_equal(table.power_w[[0, -1], 0], profile.power_w[best])
    beyond = table.power_at(np.zeros(2, np.intp), np.array([-math.inf, math.inf]))
    np.testing.assert_array_equal(beyond, table.power_w[0, [0, -1]])


@pytest.mark.parametrize("profile", [reference_profile(), TINY], ids=["reference", "tiny"])
@given(level=st.integers(0, 1), log_price=st.floats(-20.0, 10.0))
def test_what_is_bought_at_a_price_is_never_more_than_the_table_says(
    profile: DeviceProfile, level: int, log_price: float
) -> None:
    table = DemandTable.of(profile)
    worth = profile.accuracy_at([profile.lux[level]])[0] - math.exp(log_price) * profile.power_w
    (power_w,) = table.power_at(table.rows_at(np.array([float(level)])), np.array([log_price]))
    assert profile.power_w[worth.argmax()] <= power_w


# The forecast --------------------------------------------------------------------------------------------------------


def sunny(policy: MpcPolicy, *, share: float, days: int, soc: float = 0.5, step_s: float = 900.0) -> Experience:
    """What is known after days on which a share of the clear sky's power came in."""
    site, panel = Site(latitude_deg=policy.latitude_deg, day_of_year=100), Panel(rated_w=policy.panel_w)
    state = policy.initial_state(1)
    for time_s in np.arange(0.0, days * 86_400.0, step_s):
        power_in_w = share * panel.power_w(site.clear_sky_w_m2(time_s / 3600.0))
        observation = seen(
            time_s=time_s, soc=soc, power_in_w=power_in_w, hour=time_s / 3600.0 % 24.0,
            day_of_year=100 + time_s // 86_400,
        )  # fmt: skip
        _, state = policy.decide(observation, state)
    return state.experience


@pytest.mark.parametrize("share", [0.2, 0.9])
@pytest.mark.parametrize("step_s", [300.0, 3600.0])
def test_the_share_of_the_clear_sky_is_learned(share: float, step_s: float) -> None:
    assert sunny(POLICY, share=share, days=8, step_s=step_s).index[0] == pytest.approx(share, abs=0.02)


def test_a_full_battery_makes_the_sky_no_duller() -> None:
    assert sunny(POLICY, share=0.1, days=3, soc=1.0).index[0] == POLICY.expected_index
    assert sunny(POLICY, share=0.9, days=8, soc=1.0).index[0] == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize("change", [{"power_in_w": None}, {"hour": None}, {"day_of_year": None}, {"hour": 1.0}])
def test_what_is_unknown_and_the_night_say_nothing_of_the_sky(change: dict[str, Any]) -> None:
    state = POLICY.initial_state(1)
    for time_s in (0.0, 3600.0):
        _, _, state = decide(POLICY, state, **{"time_s": time_s, "hour": 12.0, "power_in_w": 0.5, **change})
    assert state.experience.index[0] == POLICY.expected_index


def test_the_course_of_a_day_is_learned_by_the_hour() -> None:
    state = POLICY.initial_state(1)
    for time_s, hour, workload, lux in [(0.0, 9.2, 0.3, 10.0), (1800.0, 9.7, 0.9, 1000.0), (3600.0, 10.2, None, 20.0)]:
        _, _, state = decide(POLICY, state, time_s=time_s, hour=hour, workload=workload, lux=lux)
    gain = 1.0 - math.exp(-0.5 / 3.0)  # half an hour of a day, against three days
    assert state.experience.workload[0, 9] == pytest.approx(0.3 + gain * 0.6, rel=1e-12)
    assert state.experience.log_lux[0, 9] == pytest.approx(1.0 + gain * 2.0, rel=1e-12)
    assert state.experience.log_lux[0, 10] == pytest.approx(math.log10(20.0))
    assert np.isnan(state.experience.workload[0, 10])
    assert np.isnan(np.delete(state.experience.log_lux[0], [9, 10])).all()


# The price -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("soc", [0.85, 0.95, 1.0])
def test_without_sun_the_charge_is_spread_evenly_over_the_horizon(soc: float) -> None:
    policy = dataclasses.replace(NIGHT, expected_workload=1.0, expected_night_lux=100.0)
    u, _, _ = decide(policy, soc=soc, lux=100.0, day_of_year=10.0)
    affordable_w = (soc - 0.2) * 120.0 / 24.0 * 0.9 - 2.2
    powers_w = policy.profile.power_w
    drawn_w = powers_w[policy.profile.point_at(u)]
    assert drawn_w <= affordable_w < drawn_w + powers_w[1]


def test_nothing_is_bought_while_the_reserve_cannot_be_kept() -> None:
    for soc in (0.0, 0.19, 0.3, 0.6):  # idle alone takes 24 h x 2.2 W / 0.9 = 0.49 of the battery
        assert decide(NIGHT, soc=soc, day_of_year=10.0)[0] == 0.0


def test_energy_is_free_where_the_battery_gets_full_anyway() -> None:
    rich = dataclasses.replace(POLICY, panel_w=400.0, latitude_deg=0.0)
    assert decide(rich, soc=0.5, hour=9.0)[0] == 1.0
    assert decide(rich, soc=0.2, hour=20.0)[0] == 0.0  # but the night comes first


@pytest.mark.parametrize("soc", [0.35, 0.5, 0.7])
def test_what_comes_after_the_battery_is_full_does_not_matter(soc: float) -> None:
    rich = dataclasses.replace(POLICY, panel_w=150.0)  # full by noon
    assert len({price(dataclasses.replace(rich, horizon_h=hours), soc=soc) for hours in (24.0, 48.0, 96.0)}) == 1


CHANGES = {"hour": st.floats(0.0, 24.0), "day_of_year": st.floats(1.0, 367.0), "workload": st.floats(0.0, 1.0)}


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.fixed_dictionaries(CHANGES), st.floats(0.0, 200_000.0))
def test_u_never_falls_and_the_price_never_rises_as_the_battery_fills(
    soc: float, other: float, signals: dict[str, Any], lux: float
) -> None:
    low, high = sorted((soc, other))
    decision, state = POLICY.decide(seen(soc=[low, high], lux=lux, **signals), POLICY.initial_state(2))
    assert state.price_per_wh[0] >= state.price_per_wh[1]
    if state.price_per_wh[0] > state.price_per_wh[1]:
        assert decision.u[0] <= decision.u[1]


@given(st.fixed_dictionaries({"soc": st.floats(0.0, 1.0), **CHANGES}), st.floats(0.05, 1.0), st.floats(0.05, 1.0))
def test_the_price_never_rises_with_the_income_expected(signals: dict[str, Any], index: float, other: float) -> None:
    signals = {**signals, "power_in_w": None}
    dull, fine = (dataclasses.replace(POLICY, expected_index=each) for each in sorted((index, other)))
    # The light that is expected hangs on the clouds too: hold it.
    lit: dict[str, Any] = {"expected_night_lux": 100_000.0}
    assert price(dataclasses.replace(dull, **lit), **signals) >= price(dataclasses.replace(fine, **lit), **signals)


def charge_after(charge_wh: float, *, income_w: float, compute_w: float) -> float:
    """Of a battery of 120 Wh, an hour later."""
    net_w = income_w - (2.2 + compute_w) / 0.9
    return min(120.0, charge_wh + (0.94 * net_w if net_w > 0.0 else net_w))


@settings(max_examples=30)
@given(st.floats(0.3, 1.0), st.integers(0, 23), st.sampled_from([80, 172, 264]))
def test_with_a_forecast_that_is_right_the_charge_stays_above_the_reserve(soc: float, hour: int, day: int) -> None:
    policy = dataclasses.replace(POLICY, expected_index=0.9, expected_workload=1.0, end_soc=0.3, reserve_soc=0.1)
    site, panel = Site(latitude_deg=36.0, day_of_year=day), Panel(rated_w=40.0)
    charge_wh, thrifty_wh, state = soc * 120.0, soc * 120.0, policy.initial_state(1)
    lowest_wh, floor_wh = charge_wh, 0.1 * 120.0
    for step in range(96):
        at = hour + step
        u, _, state = decide(
            policy, state, time_s=3600.0 * step, soc=charge_wh / 120.0, power_in_w=None, hour=at % 24,
            day_of_year=day + at // 24, lux=100_000.0,
        )  # fmt: skip
        income_w = 0.9 * float(panel.power_w(site.clear_sky_w_m2(at + 0.5)))
        compute_w = float(policy.profile.power_w[policy.profile.point_at(u)])
        charge_wh = charge_after(charge_wh, income_w=income_w, compute_w=compute_w)
        thrifty_wh = charge_after(thrifty_wh, income_w=income_w, compute_w=0.0)
        lowest_wh, floor_wh = min(lowest_wh, charge_wh), min(floor_wh, thrifty_wh)  # who buys nothing may get lower
    assert lowest_wh >= floor_wh - 0.01 * 120.0


# The plan's life -----------------------------------------------------------------------------------------------------


def test_a_price_holds_for_an_hour_and_buys_what_is_seen_meanwhile() -> None:
    us, prices, state = [], [], None
    for time_s, workload in [(0.0, 1.0), (1800.0, 0.2), (3599.0, 1.0), (3600.0, 1.0)]:
        u, _, state = decide(POLICY, state, time_s=time_s, soc=0.8 if time_s < 3599.0 else 0.4, workload=workload)
        us.append(u)
        prices.append(float(state.price_per_wh[0]))
    assert prices[0] == prices[1] == prices[2] < prices[3]
    assert us[1] == 0.0 < us[0] == us[2] > us[3]


def test_a_clock_that_was_set_back_makes_a_new_plan() -> None:
    _, _, state = decide(POLICY, time_s=5000.0, soc=0.8)
    _, _, state = decide(POLICY, state, time_s=100.0, soc=0.4)
    assert state.planned_s[0] == 100.0
    _, _, state = decide(POLICY, state, time_s=3600.0, soc=0.8)
    assert state.planned_s[0] == 100.0


@pytest.mark.parametrize("name", ["soc", "lux", "workload", "hour", "day_of_year"])
def test_u_is_unknown_with_a_signal_it_needs(name: str) -> None:
    u, reason, state = decide(POLICY, **{name: None})
    assert (math.isnan(u), reason) == (True, f"unknown_{name}")
    u, reason, _ = decide(POLICY, state, time_s=10.0)  # known again: decided at once
    assert (math.isnan(u), reason) == (False, "mpc")


@pytest.mark.parametrize("name", ["soc", "hour", "day_of_year"])
def test_a_plan_outlives_what_is_unknown_within_its_hour(name: str) -> None:
    u, _, state = decide(POLICY, soc=0.8)
    again, reason, state = decide(POLICY, state, time_s=1800.0, **{name: None})
    assert (again, reason) == (u, "mpc")
    assert decide(POLICY, state, time_s=3600.0, **{name: None})[1] == f"unknown_{name}"


def test_where_there_is_nothing_to_see_u_is_the_lowest() -> None:
    for workload in (0.0, 0.25):
        assert decide(POLICY, soc=1.0, hour=12.0, workload=workload)[0] == 0.0


# Files ---------------------------------------------------------------------------------------------------------------


def test_a_file_makes_the_policy_it_says() -> None:
    policy = read_policy(EXAMPLE).policy
    assert isinstance(policy, MpcPolicy)
    given_by_file = {"battery_wh": 120.0, "panel_w": 40.0, "latitude_deg": 36.1, "solar_lead_h": -0.33}
    assert policy == MpcPolicy(**given_by_file, profile=policy.profile)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"panel_w": 0.0}, "panel_w must be a finite number above 0, got 0"),
        ({"panel_derating": 1.5}, "panel_derating must lie in (0, 1], got 1.5"),
        ({"latitude_deg": 91.0}, "latitude_deg must lie in [-90, 90], got 91"),
        ({"solar_lead_h": 13.0}, "solar_lead_h must lie in [-12, 12], got 13"),
        ({"horizon_h": 0.5}, "horizon_h must lie in [1, 168], got 0.5"),
        ({"reserve_soc": 15.0}, "reserve_soc must lie in [0, 1] (soc in share), got 15; for 15 % write 0.15"),
        ({"end_soc": 0.1}, "end_soc must not be below reserve_soc 0.15, got 0.1"),
        ({"expected_workload": -1.0}, "expected_workload must lie in [0, 1] (workload in share), got -1"),
        ({"base_workload": 1.0}, "base_workload must lie in [0, 1), got 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(write_policy: WritePolicy, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataclasses.replace(POLICY, **changes)
    (key,) = changes
    table = {"battery_wh": 120.0, "panel_w": 40.0, "latitude_deg": 36.0, **changes}
    path = write_policy("\n".join(["governor.unknown_u = 0", "[mpc]", *(f"{k} = {v}" for k, v in table.items())]))
    with pytest.raises(ConfigError) as caught:
        read_policy(path)
    assert str(caught.value) == f"{path}:{3 + list(table).index(key)}: mpc.{key}: {message}"
