"""The simulated device lives by its clock and by the plant's laws."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.device import SimulatedDevice, SimulatedPower, SimulatedThermometer
from tnn_edge.plant import Battery, Panel, ThermalNode

HOUR = 3600.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def device(clock: Clock, *, soc: float = 0.5, **rest: object) -> SimulatedDevice:
    battery = Battery(usable_wh=40.0, charge_efficiency=0.9, discharge_efficiency=0.8)
    return SimulatedDevice(battery=battery, soc=soc, clock=clock, **rest)  # type: ignore[arg-type]  # tests know them


def test_a_load_takes_the_charge_that_its_hours_cost() -> None:
    clock = Clock()
    power = SimulatedPower(device(clock, load_w=4.0))
    clock.now += 2.5 * HOUR
    reading = power.read()
    assert reading.charge_wh == pytest.approx(0.5 * 40.0 - 4.0 * 2.5 / 0.8)
    assert reading.battery_w == pytest.approx(-4.0)
    assert (reading.power_in_w, reading.on_mains) == (0.0, False)


def test_a_new_load_counts_from_the_moment_it_is_set() -> None:
    clock = Clock()
    board = device(clock, load_w=4.0)
    clock.now += HOUR
    board.load_w = 1.0
    clock.now += HOUR
    assert SimulatedPower(board).read().charge_wh == pytest.approx(20.0 - (4.0 + 1.0) / 0.8)


def test_mains_feeds_the_load_and_charges_the_battery() -> None:
    clock = Clock()
    board = device(clock, load_w=4.0)
    board.mains_w = 10.0
    clock.now += HOUR
    reading = SimulatedPower(board).read()
    assert reading.charge_wh == pytest.approx(20.0 + (10.0 - 4.0) * 0.9)
    assert reading.battery_w == pytest.approx(6.0)
    assert reading.power_in_w == pytest.approx(10.0)
    assert reading.on_mains is True


def test_a_full_battery_takes_no_more_than_the_load_needs() -> None:
    reading = SimulatedPower(device(Clock(), soc=1.0, load_w=4.0, mains_w=10.0)).read()
    assert reading.soc == 1.0
    assert reading.power_in_w == pytest.approx(4.0)
    assert reading.battery_w == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("step_s", [60.0, 7 * HOUR])
def test_the_panel_gives_the_integral_of_its_sun(step_s: float) -> None:
    """A sun that rises by 100 W/m2 an hour, of which the middle of a step is the mean of the step."""
    clock = Clock()
    board = device(
        clock,
        soc=0.0,
        panel=Panel(rated_w=2.0, derating=0.5, temperature_coefficient=0.0),
        irradiance_w_m2=lambda seconds: 100.0 * seconds / HOUR,
        step_s=step_s,
    )
    clock.now += 6 * HOUR
    assert SimulatedPower(board).read().charge_wh == pytest.approx(0.9 * 2.0 * 0.5 * (100.0 * 6**2 / 2) / 1000.0)


def test_a_board_without_charge_is_off_and_comes_back_with_the_mains() -> None:
    clock = Clock()
    board = device(clock, soc=0.05, load_w=4.0)
    assert board.is_on
    clock.now += HOUR
    assert not board.is_on
    assert (board.soc, SimulatedPower(board).read().battery_w) == (0.0, 0.0)
    board.mains_w = 20.0
    clock.now += HOUR
    assert board.is_on


def test_the_board_warms_to_the_air_and_its_power_times_its_resistance() -> None:
    clock = Clock()
    node = ThermalNode(resistance_k_per_w=2.0, time_constant_s=600.0)
    board = device(clock, soc=1.0, load_w=3.0, air_c=lambda _: 20.0, thermal=node)
    thermometer = SimulatedThermometer(board)
    assert thermometer.read() == 20.0
    clock.now += 600.0
    assert thermometer.read() == pytest.approx(20.0 + 2.0 * 3.0 * (1.0 - math.exp(-1.0)))
    clock.now += HOUR
    assert thermometer.read() == pytest.approx(20.0 + 2.0 * 3.0, abs=0.05)


@given(looks=st.lists(st.floats(0.0, 900.0), max_size=5))
def test_how_often_one_looks_changes_nothing(looks: list[float]) -> None:
    clocks = Clock(), Clock()
    seen, unseen = (SimulatedPower(device(clock, load_w=3.0, mains_w=1.0)) for clock in clocks)
    for gap in looks:
        clocks[0].now += gap
        seen.read()
    clocks[1].now = clocks[0].now
    assert seen.read().charge_wh == pytest.approx(unseen.read().charge_wh, rel=1e-9)


@pytest.mark.parametrize("now", [999.0, -math.inf, math.nan, math.inf])
def test_a_clock_that_is_out_of_order_adds_no_time(now: float) -> None:
    clock = Clock()
    power = SimulatedPower(device(clock, load_w=4.0))
    before = power.read()
    clock.now = now
    assert power.read() == before
    clock.now = 1000.0 + HOUR
    assert power.read().charge_wh == pytest.approx(20.0 - 4.0 / 0.8)


def test_a_clock_that_jumps_a_century_is_survived() -> None:
    clock = Clock()
    power = SimulatedPower(device(clock, load_w=4.0, mains_w=5.0))
    clock.now += 100 * 365 * 24 * HOUR
    assert power.read().soc == 1.0


def test_a_sensor_that_failed_comes_back_to_a_device_that_went_on() -> None:
    clock = Clock()
    board = device(clock, load_w=4.0)
    power, thermometer = SimulatedPower(board), SimulatedThermometer(board)
    power.fail("the gauge is gone")
    thermometer.fail("the wire is cut")
    clock.now += HOUR
    reading = power.read()
    assert not reading.is_known
    assert set(reading.reasons.values()) == {"the gauge is gone"}
    assert (thermometer.read(), thermometer.notes) == (None, ("the wire is cut",))
    power.recover()
    thermometer.recover()
    assert power.read().charge_wh == pytest.approx(20.0 - 4.0 / 0.8)
    assert thermometer.read() is not None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: device(Clock(), load_w=-1.0), "load_w must not be negative, got -1"),
        (lambda: device(Clock(), mains_w=math.nan), "mains_w must not be negative, got nan"),
        (lambda: device(Clock(), step_s=0.0), "step_s must be above 0, got 0"),
        (lambda: device(Clock(), soc=1.5), r"soc must lie in \[0, 1\], got 1.5"),
    ],
)
def test_a_device_that_cannot_be_is_refused(make: Callable[[], SimulatedDevice], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_load_that_cannot_be_is_refused_and_the_old_one_stays() -> None:
    board = device(Clock(), load_w=2.0)
    with pytest.raises(ValueError, match="load_w must not be negative, got -3"):
        board.load_w = -3.0
    assert board.load_w == 2.0
