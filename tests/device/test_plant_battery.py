"""The battery: hand-computed steps, a slow plain simulation in small slices, and the energy balance."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tnn_edge.plant import Battery, BatteryState

HOUR_S = 3600.0
ENERGIES = ("load_wh", "boot_wh", "panel_wh", "spilled_wh", "lost_wh")


def step_one(
    battery: Battery, soc: float, *, panel_w: float, load_w: float, hours: float = 1.0
) -> tuple[float, bool, dict[str, float]]:
    """Charge in Wh, whether the load is on, and the flows of one device's step."""
    state, flows = battery.step(battery.state(soc), panel_w=panel_w, load_w=load_w, seconds=hours * HOUR_S)
    return float(state.charge_wh[0]), bool(state.is_on[0]), {k: float(v[0]) for k, v in vars(flows).items()}


def test_the_battery_gives_what_the_panel_lacks() -> None:
    battery = Battery(usable_wh=100, discharge_efficiency=0.8)
    charge_wh, is_on, flows = step_one(battery, 0.5, panel_w=2, load_w=10, hours=0.5)
    drawn_wh = (10 - 2) * 0.5 / 0.8
    assert charge_wh == pytest.approx(50 - drawn_wh)
    assert is_on
    assert flows == pytest.approx(
        {
            "on_share": 1,
            "load_wh": 10 * 0.5,
            "boot_wh": 0,
            "panel_wh": 2 * 0.5,
            "spilled_wh": 0,
            "lost_wh": 0.2 * drawn_wh,
            "is_brown_out": 0,
        }
    )


def test_what_the_load_leaves_charges_the_battery() -> None:
    battery = Battery(usable_wh=100, charge_efficiency=0.9)
    charge_wh, is_on, flows = step_one(battery, 0.5, panel_w=30, load_w=10)
    assert charge_wh == pytest.approx(50 + 0.9 * (30 - 10))
    assert is_on
    assert flows["load_wh"] == pytest.approx(10)
    assert flows["lost_wh"] == pytest.approx(0.1 * (30 - 10))
    assert flows["spilled_wh"] == 0


def test_what_exceeds_the_charging_power_is_spilled() -> None:
    battery = Battery(usable_wh=100, charge_efficiency=0.9, max_charge_w=15)
    charge_wh, _, flows = step_one(battery, 0.5, panel_w=30, load_w=10, hours=2)
    assert charge_wh == pytest.approx(50 + 0.9 * 15 * 2)
    assert flows["spilled_wh"] == pytest.approx((30 - 10 - 15) * 2)
    assert flows["load_wh"] == pytest.approx(10 * 2)


def test_a_battery_that_fills_up_within_the_step_spills_the_rest() -> None:
    battery = Battery(usable_wh=100, charge_efficiency=0.9)
    charge_wh, _, flows = step_one(battery, 0.95, panel_w=30, load_w=10)
    assert charge_wh == 100
    assert flows["spilled_wh"] == pytest.approx(20 - 5 / 0.9)
    assert flows["lost_wh"] == pytest.approx(5 / 0.9 - 5)


@pytest.mark.parametrize("efficiency", [0.93, 0.95, 0.97])
def test_a_battery_that_fills_up_is_full_to_the_last_bit(efficiency: float) -> None:
    battery = Battery(usable_wh=37.3, charge_efficiency=efficiency)
    before = battery.state(np.linspace(0.01, 0.999, 97))
    state, _ = battery.step(before, panel_w=100, load_w=0, seconds=HOUR_S)
    assert (battery.soc(state) == 1).all()


def test_a_full_battery_takes_nothing() -> None:
    battery = Battery(usable_wh=100)
    charge_wh, is_on, flows = step_one(battery, 1.0, panel_w=30, load_w=10)
    assert charge_wh == 100
    assert is_on
    assert flows["spilled_wh"] == 30 - 10
    assert flows["lost_wh"] == 0


def test_a_load_whose_battery_runs_out_is_off_for_the_rest_of_the_step_while_the_panel_charges() -> None:
    battery = Battery(usable_wh=100, charge_efficiency=0.9, discharge_efficiency=0.8, cut_off=0.05, reboot=0.1)
    charge_wh, is_on, flows = step_one(battery, 0.07, panel_w=2, load_w=10)
    lasts_h = (7 - 5) / ((10 - 2) / 0.8)
    assert flows["on_share"] == pytest.approx(lasts_h)
    assert flows["load_wh"] == pytest.approx(10 * lasts_h)
    assert charge_wh == pytest.approx(5 + 0.9 * 2 * (1 - lasts_h))
    assert flows["lost_wh"] == pytest.approx(0.2 * (7 - 5) + 0.1 * 2 * (1 - lasts_h))
    assert flows["spilled_wh"] == 0
    assert flows["is_brown_out"]
    assert not is_on


def test_a_load_that_died_comes_back_at_the_end_of_the_step_if_the_panel_brought_enough() -> None:
    battery = Battery(usable_wh=1, charge_efficiency=1.0, discharge_efficiency=1.0, reboot=0.5)
    charge_wh, is_on, flows = step_one(battery, 0.25, panel_w=1, load_w=2)
    assert flows["on_share"] == 0.25
    assert charge_wh == 0.75
    assert flows["is_brown_out"]
    assert is_on


def test_a_load_that_is_off_draws_nothing_and_comes_back_at_the_reboot_threshold() -> None:
    battery = Battery(usable_wh=10, charge_efficiency=0.5, reboot=0.25)
    state = battery.state(0.0)
    assert not state.is_on[0]
    for charge_wh, is_on in ((1.0, False), (2.0, False), (3.0, True)):
        state, flows = battery.step(state, panel_w=2, load_w=5, seconds=HOUR_S)
        assert state.charge_wh[0] == pytest.approx(charge_wh)
        assert state.is_on[0] == is_on
        assert flows.load_wh[0] == 0
        assert flows.on_share[0] == 0
        assert not flows.is_brown_out[0]


def test_exactly_the_reboot_threshold_is_enough() -> None:
    battery = Battery(usable_wh=8, charge_efficiency=1.0, reboot=0.25)
    state, _ = battery.step(battery.state(0.0), panel_w=2, load_w=5, seconds=HOUR_S)
    assert state.charge_wh[0] == 2
    assert state.is_on[0]


def test_between_cut_off_and_reboot_a_load_stays_as_it_is() -> None:
    battery = Battery(usable_wh=100, cut_off=0.1, reboot=0.3)
    state = BatteryState(charge_wh=np.array([20.0, 20.0]), is_on=np.array([True, False]))
    after, flows = battery.step(state, panel_w=1, load_w=1, seconds=60)
    assert after.is_on.tolist() == [True, False]
    assert flows.on_share.tolist() == [1, 0]


def test_at_the_cut_off_the_panel_alone_can_keep_a_load_on() -> None:
    battery = Battery(usable_wh=100, cut_off=0.1, reboot=0.3)
    state = BatteryState(charge_wh=np.array([10.0, 10.0]), is_on=np.array([True, True]))
    after, flows = battery.step(state, panel_w=np.array([5.0, 4.9]), load_w=5, seconds=60)
    assert after.is_on.tolist() == [True, False]
    assert flows.on_share.tolist() == [1, 0]
    assert flows.is_brown_out.tolist() == [False, True]


def test_a_state_of_charge_becomes_energy_and_back() -> None:
    battery = Battery(usable_wh=40, cut_off=0.25, reboot=0.5)
    state = battery.state([0.0, 0.25, 0.26, 1.0])
    assert state.charge_wh.tolist() == [0, 10, 0.26 * 40, 40]
    assert state.is_on.tolist() == [False, False, True, True]
    np.testing.assert_allclose(battery.soc(state), [0, 0.25, 0.26, 1], rtol=1e-15)


def in_slices(
    battery: Battery, soc: float, *, panel_w: float, load_w: float, hours: float, n_slices: int
) -> tuple[float, dict[str, float]]:
    """Charge and flows of a step, added up slice by slice with plain ifs; a slice is the error in time."""
    dt = hours / n_slices
    charge_wh, is_on = soc * battery.usable_wh, soc > battery.cut_off
    flows = dict.fromkeys(("on_share", *ENERGIES), 0.0)
    for _ in range(n_slices):
        if is_on and load_w > panel_w and charge_wh <= battery.cut_off * battery.usable_wh:
            is_on = False
        drawn_w = load_w if is_on else 0.0
        stored_wh = spilled_wh = given_wh = 0.0
        if panel_w >= drawn_w:
            to_battery_wh = min(panel_w - drawn_w, battery.max_charge_w) * dt
            stored_wh = min(to_battery_wh * battery.charge_efficiency, battery.usable_wh - charge_wh)
            spilled_wh = (panel_w - drawn_w) * dt - stored_wh / battery.charge_efficiency
            flows["lost_wh"] += stored_wh / battery.charge_efficiency - stored_wh
        else:
            given_wh = (drawn_w - panel_w) * dt / battery.discharge_efficiency
            flows["lost_wh"] += given_wh * (1 - battery.discharge_efficiency)
        charge_wh += stored_wh - given_wh
        flows["on_share"] += dt / hours if is_on else 0.0
        flows["load_wh"] += drawn_w * dt
        flows["panel_wh"] += panel_w * dt
        flows["spilled_wh"] += spilled_wh
    return charge_wh, flows


@pytest.mark.parametrize(
    ("soc", "panel_w", "load_w"),
    [(0.5, 3.0, 9.0), (0.5, 9.0, 3.0), (0.12, 1.0, 9.0), (0.12, 20.0, 25.0), (0.95, 30.0, 5.0), (0.05, 8.0, 9.0)],
    ids=["drains", "charges", "dies", "dies and charges at the limit", "fills up", "is off"],
)
def test_a_step_equals_many_small_ones_of_a_plain_simulation(soc: float, panel_w: float, load_w: float) -> None:
    battery = Battery(
        usable_wh=20, charge_efficiency=0.9, discharge_efficiency=0.85, cut_off=0.1, reboot=0.9, max_charge_w=12
    )
    n_slices, hours = 20_000, 1.0
    charge_wh, expected = in_slices(battery, soc, panel_w=panel_w, load_w=load_w, hours=hours, n_slices=n_slices)
    got_wh, _, flows = step_one(battery, soc, panel_w=panel_w, load_w=load_w, hours=hours)
    slack_wh = 2 * hours / n_slices * (panel_w + load_w)
    assert got_wh == pytest.approx(charge_wh, abs=slack_wh)
    for name, value in expected.items():
        assert flows[name] == pytest.approx(value, abs=slack_wh), name


batteries = st.builds(
    lambda cut_off, gap, **rest: Battery(cut_off=cut_off, reboot=cut_off + gap, **rest),
    cut_off=st.floats(0, 0.5),
    gap=st.floats(0.01, 0.5),
    usable_wh=st.floats(0.01, 1000),
    charge_efficiency=st.floats(0.05, 1),
    discharge_efficiency=st.floats(0.05, 1),
    max_charge_w=st.one_of(st.just(float("inf")), st.floats(0.01, 100)),
)
powers = st.one_of(st.just(0), st.integers(0, 100_000)).map(lambda mw: mw / 1000)
devices = st.lists(st.tuples(st.floats(0, 1), st.booleans(), powers, powers), min_size=1, max_size=9)
lengths_s = st.floats(10, 24 * HOUR_S)
Device = tuple[float, bool, float, float]


def unpack(battery: Battery, rows: list[Device]) -> tuple[BatteryState, dict[str, npt.NDArray[np.float64]]]:
    soc, is_on, panel_w, load_w = (np.array(column) for column in zip(*rows, strict=True))
    return BatteryState(charge_wh=soc * battery.usable_wh, is_on=is_on), {"panel_w": panel_w, "load_w": load_w}


@given(batteries, devices, lengths_s)
def test_no_energy_appears_or_is_lost(battery: Battery, rows: list[Device], seconds: float) -> None:
    before, powers_w = unpack(battery, rows)
    after, flows = battery.step(before, **powers_w, seconds=seconds)
    gone_wh = flows.load_wh + flows.boot_wh + flows.lost_wh + flows.spilled_wh + (after.charge_wh - before.charge_wh)
    np.testing.assert_allclose(gone_wh, flows.panel_wh, rtol=0, atol=1e-9)
    np.testing.assert_allclose(flows.panel_wh, powers_w["panel_w"] * seconds / HOUR_S, rtol=1e-12)
    np.testing.assert_allclose(flows.load_wh, powers_w["load_w"] * flows.on_share * seconds / HOUR_S, rtol=1e-12)


@given(batteries, devices, lengths_s)
def test_every_flow_and_state_stays_within_its_bounds(battery: Battery, rows: list[Device], seconds: float) -> None:
    before, powers_w = unpack(battery, rows)
    after, flows = battery.step(before, **powers_w, seconds=seconds)
    assert (after.charge_wh >= 0).all()
    assert (after.charge_wh <= battery.usable_wh).all()
    assert ((flows.on_share >= 0) & (flows.on_share <= 1)).all()
    for name in ENERGIES:
        assert (getattr(flows, name) >= 0).all(), name
    stored_wh = battery.charge_efficiency * battery.max_charge_w * seconds / HOUR_S
    assert (after.charge_wh - before.charge_wh <= stored_wh + 1e-9).all()
    discharged = after.charge_wh < before.charge_wh - 1e-9
    assert (after.charge_wh[discharged] >= battery.cut_off * battery.usable_wh - 1e-9).all()
    assert (flows.is_brown_out <= before.is_on).all()
    assert (flows.on_share[before.is_on & ~flows.is_brown_out] == 1).all()


@settings(max_examples=60)
@given(batteries, devices, lengths_s)
def test_two_half_steps_are_one_step_where_no_load_comes_back_between_them(
    battery: Battery, rows: list[Device], seconds: float
) -> None:
    before, powers_w = unpack(battery, rows)
    once, whole = battery.step(before, **powers_w, seconds=seconds)
    between, first = battery.step(before, **powers_w, seconds=seconds / 2)
    assume(not (between.is_on & (~before.is_on | first.is_brown_out)).any())
    twice, second = battery.step(between, **powers_w, seconds=seconds / 2)
    np.testing.assert_allclose(twice.charge_wh, once.charge_wh, rtol=0, atol=1e-9)
    for name in ENERGIES:
        both = getattr(first, name) + getattr(second, name)
        np.testing.assert_allclose(both, getattr(whole, name), rtol=0, atol=1e-9, err_msg=name)
    np.testing.assert_allclose((first.on_share + second.on_share) / 2, whole.on_share, rtol=0, atol=1e-6)
    # A battery that is empty just at the end may or may not have died there, by rounding.
    clear = (whole.on_share < 1 - 1e-6) | (once.charge_wh > battery.cut_off * battery.usable_wh + 1e-6)
    np.testing.assert_array_equal((first.is_brown_out | second.is_brown_out)[clear], whole.is_brown_out[clear])


@settings(max_examples=60)
@given(batteries, devices, lengths_s)
def test_a_batch_equals_its_devices_one_by_one_bit_for_bit(
    battery: Battery, rows: list[Device], seconds: float
) -> None:
    before, powers_w = unpack(battery, rows)
    together = battery.step(before, **powers_w, seconds=seconds)
    for i in range(len(rows)):
        alone_before = BatteryState(charge_wh=before.charge_wh[i : i + 1], is_on=before.is_on[i : i + 1])
        alone = battery.step(alone_before, panel_w=rows[i][2], load_w=rows[i][3], seconds=seconds)
        for got, one in zip(together, alone, strict=True):
            for name, values in vars(got).items():
                assert values[i].tobytes() == getattr(one, name)[0].tobytes(), name


def test_a_step_leaves_the_state_before_it_alone() -> None:
    battery = Battery(usable_wh=10)
    before = battery.state([0.5, 0.01])
    battery.step(before, panel_w=0, load_w=5, seconds=HOUR_S)
    assert before.charge_wh.tolist() == [5, 0.1]
    assert before.is_on.tolist() == [True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"usable_wh": 0}, r"usable_wh must be a finite number above 0, got 0$"),
        ({"usable_wh": float("inf")}, r"usable_wh must be a finite number above 0, got inf$"),
        ({"charge_efficiency": 0}, r"charge_efficiency must lie in \(0, 1\], got 0$"),
        ({"discharge_efficiency": 1.01}, r"discharge_efficiency must lie in \(0, 1\], got 1\.01$"),
        ({"cut_off": 0.2, "reboot": 0.2}, r"need 0 <= cut_off < reboot <= 1, got cut_off 0\.2, reboot 0\.2$"),
        ({"cut_off": -0.1}, r"need 0 <= cut_off < reboot <= 1, got cut_off -0\.1, reboot 0\.1$"),
        ({"reboot": 10}, r"need 0 <= cut_off < reboot <= 1, got cut_off 0, reboot 10$"),
        ({"max_charge_w": 0}, r"max_charge_w must be above 0, got 0$"),
        ({"max_charge_w": float("nan")}, r"max_charge_w must be above 0, got nan$"),
    ],
)
def test_a_battery_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Battery(**{"usable_wh": 10, **options})


@pytest.mark.parametrize("soc", [-0.1, 1.5, float("nan"), [0.5, 1.5, -2]])
def test_a_state_of_charge_that_cannot_be_is_refused(soc: npt.ArrayLike) -> None:
    wrong = "1.5" if isinstance(soc, list) else f"{soc:g}"
    with pytest.raises(ValueError, match=rf"soc must lie in \[0, 1\], got {wrong}$"):
        Battery(usable_wh=10).state(soc)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"panel_w": -1}, r"panel_w must be finite and not negative, got -1$"),
        ({"panel_w": [3, float("nan")]}, r"panel_w must be finite and not negative, got nan$"),
        ({"load_w": float("inf")}, r"load_w must be finite and not negative, got inf$"),
        ({"load_w": [1, 2, 3]}, r"load_w must be a number or of shape \(2,\), got shape \(3,\)$"),
        ({"panel_w": [1]}, r"panel_w must be a number or of shape \(2,\), got shape \(1,\)$"),
        ({"seconds": 0}, r"seconds must be a finite number above 0, got 0$"),
        ({"seconds": float("nan")}, r"seconds must be a finite number above 0, got nan$"),
    ],
)
def test_a_step_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    battery = Battery(usable_wh=10)
    with pytest.raises(ValueError, match=message):
        battery.step(battery.state([0.5, 0.5]), **{"panel_w": 1, "load_w": 1, "seconds": 60, **options})
