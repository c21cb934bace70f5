"""What cold, leak and boot do to a battery: hand-computed steps, bounds, and the energy balance."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.plant import Battery, BatteryState

HOUR_S = 3600.0


def plain(**options: float) -> Battery:
    return Battery(**{"usable_wh": 100.0, "charge_efficiency": 1.0, "discharge_efficiency": 1.0, **options})


def after_hour(
    battery: Battery, charge_wh: float, *, is_on: bool = True, panel_w: float = 0.0, load_w: float = 0.0, cold_c: float
) -> tuple[Any, ...]:
    """Charge, whether the load is on, and which part of the hour it was."""
    state = BatteryState(charge_wh=np.array([charge_wh]), is_on=np.array([is_on]))
    after, flow = battery.step(state, panel_w=panel_w, load_w=load_w, seconds=HOUR_S, temperature_c=cold_c)
    return float(after.charge_wh[0]), bool(after.is_on[0]), float(flow.on_share[0])


def test_in_the_cold_the_lowest_part_of_the_charge_cannot_be_drawn_and_is_not_lost() -> None:
    battery = plain(cold_loss_per_k=0.01, cut_off=0.1, reboot=0.2)
    # At -10 degrees C 30 % of the 90 Wh above the cut-off are held back: 10 + 27 Wh.
    assert battery.cut_off_wh(-10.0) == pytest.approx(37.0)
    assert battery.reboot_wh(-10.0) == pytest.approx(47.0)
    assert after_hour(battery, 40.0, load_w=6.0, cold_c=-10.0) == (pytest.approx(37.0), False, pytest.approx(0.5))
    assert after_hour(battery, 40.0, load_w=6.0, cold_c=20.0) == (pytest.approx(34.0), True, 1.0)
    # A load that the cold took down comes back when it is warm, without a watt from the panel.
    assert after_hour(battery, 37.0, is_on=False, load_w=6.0, cold_c=-10.0)[1] is False
    assert after_hour(battery, 37.0, is_on=False, load_w=6.0, cold_c=20.0) == (37.0, True, 0.0)


def test_a_load_that_the_cold_overtakes_is_off_at_once() -> None:
    battery = plain(cold_loss_per_k=0.01)
    assert after_hour(battery, 20.0, load_w=5.0, cold_c=-20.0) == (20.0, False, 0.0)


@pytest.mark.parametrize(("cold_c", "expected_wh"), [(-0.1, 50.0), (0.0, 57.0), (20.0, 57.0)])
def test_below_freezing_nothing_is_charged_and_all_is_spilled(cold_c: float, expected_wh: float) -> None:
    battery = plain(cold_loss_per_k=0.0, charge_efficiency=0.7)
    state, flow = battery.step(battery.state(0.5), panel_w=12.0, load_w=2.0, seconds=HOUR_S, temperature_c=cold_c)
    assert state.charge_wh[0] == pytest.approx(expected_wh)
    assert flow.spilled_wh[0] == pytest.approx(10.0 if cold_c < 0.0 else 0.0)
    assert flow.load_wh[0] == pytest.approx(2.0)


def test_a_battery_leaks_its_share_in_thirty_days_whether_anything_runs_or_not() -> None:
    battery = plain(self_discharge_per_month=0.03)
    for load_w, expected_wh in ((0.0, 97.0), (0.1, 97.0 - 72.0)):
        state, flow = battery.step(battery.state(1.0), panel_w=0.0, load_w=load_w, seconds=720 * HOUR_S)
        assert state.charge_wh[0] == pytest.approx(expected_wh)
        assert flow.lost_wh[0] == pytest.approx(3.0)


def test_an_empty_battery_has_nothing_to_leak() -> None:
    assert after_hour(plain(self_discharge_per_month=1.0), 0.0, is_on=False, cold_c=20.0)[0] == 0.0


def test_to_boot_takes_its_energy_at_the_end_of_the_step() -> None:
    battery = plain(reboot=0.1, boot_wh=2.0, discharge_efficiency=0.8)
    state = BatteryState(charge_wh=np.array([5.0]), is_on=np.array([False]))
    after, flow = battery.step(state, panel_w=6.0, load_w=3.0, seconds=HOUR_S)
    assert after.charge_wh[0] == pytest.approx(5.0 + 6.0 - 2.0 / 0.8)
    assert after.is_on[0]
    assert flow.on_share[0] == 0.0
    assert flow.boot_wh[0] == 2.0
    stays, _ = battery.step(after, panel_w=0.0, load_w=3.0, seconds=HOUR_S)
    assert stays.charge_wh[0] == pytest.approx(8.5 - 3.0 / 0.8)


batteries = st.builds(
    lambda cut_off, gap, boot, discharge_efficiency, usable_wh, **rest: Battery(
        usable_wh=usable_wh,
        cut_off=cut_off,
        reboot=cut_off + gap,
        discharge_efficiency=discharge_efficiency,
        boot_wh=boot * gap * usable_wh * discharge_efficiency,
        **rest,
    ),
    cut_off=st.floats(0.0, 0.5),
    gap=st.floats(0.01, 0.5),
    boot=st.floats(0.0, 0.99),
    usable_wh=st.floats(1.0, 1000.0),
    charge_efficiency=st.floats(0.1, 1.0),
    discharge_efficiency=st.floats(0.1, 1.0),
    cold_loss_per_k=st.floats(0.0, 0.02),
    min_charge_c=st.sampled_from([0.0, -10.0, -math.inf]),
    self_discharge_per_month=st.floats(0.0, 1.0),
)
days = st.lists(
    st.tuples(st.floats(0.0, 50.0), st.floats(0.0, 30.0), st.floats(-50.0, 40.0)), min_size=1, max_size=8
)  # panel, load, degrees C


@given(batteries, st.floats(0.0, 1.0), days, st.floats(60.0, 12 * HOUR_S))
def test_no_energy_appears_or_is_lost_and_no_charge_is_impossible(
    battery: Battery, soc: float, steps: list[tuple[float, float, float]], seconds: float
) -> None:
    state = battery.state(soc)
    for panel_w, load_w, cold_c in steps:
        after, flow = battery.step(state, panel_w=panel_w, load_w=load_w, seconds=seconds, temperature_c=cold_c)
        stored_wh = after.charge_wh - state.charge_wh
        gone_wh = flow.load_wh + flow.boot_wh + flow.lost_wh + flow.spilled_wh + stored_wh
        np.testing.assert_allclose(gone_wh, flow.panel_wh, rtol=0, atol=1e-9)
        assert 0.0 <= after.charge_wh[0] <= battery.usable_wh
        for name in ("load_wh", "boot_wh", "lost_wh", "spilled_wh"):
            assert getattr(flow, name)[0] >= -1e-12, name
        if cold_c < battery.min_charge_c:
            assert stored_wh[0] <= 0.0
        state = after


@given(batteries, st.floats(-50.0, 40.0), st.floats(0.0, 20.0))
def test_the_colder_the_less_can_be_drawn(battery: Battery, cold_c: float, colder_by: float) -> None:
    assert battery.cut_off_wh(cold_c - colder_by) >= battery.cut_off_wh(cold_c)
    assert battery.cut_off_wh(cold_c) <= battery.reboot_wh(cold_c) <= battery.usable_wh


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cold_loss_per_k": 0.03}, r"cold_loss_per_k must lie in \[0, 0\.02\], got 0\.03"),
        ({"min_charge_c": math.nan}, r"min_charge_c must be a number, got nan"),
        ({"self_discharge_per_month": -0.1}, r"self_discharge_per_month must lie in \[0, 1\], got -0\.1"),
        (
            {"boot_wh": 10.0},
            r"boot_wh must lie in \[0, 10\), what the battery gives between reboot and cut_off, got 10",
        ),
    ],
)
def test_a_battery_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plain(**options)


def test_a_temperature_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="temperature_c must be finite"):
        after_hour(plain(), 50.0, cold_c=math.nan)
