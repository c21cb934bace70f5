"""A board with battery, converter and heat: what each does, and that together they lose nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tnn_edge.plant import Battery, BoardState, Converter, PoweredBoard, ThermalNode, ThermalThrottle

HOUR_S = 3600.0


def board(**options: object) -> PoweredBoard:
    battery = Battery(usable_wh=100.0, charge_efficiency=1.0, discharge_efficiency=1.0)
    return PoweredBoard(battery=battery, **options)  # type: ignore[arg-type]


def test_a_converter_costs_a_share_and_a_power_of_its_own() -> None:
    converter = Converter(efficiency=0.8, standby_w=0.5)
    np.testing.assert_allclose(converter.input_w([0.0, 8.0]), [0.5, 10.5])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"efficiency": 0.0}, r"efficiency must lie in \(0, 1\], got 0"),
        ({"efficiency": 1.1}, r"efficiency must lie in \(0, 1\], got 1\.1"),
        ({"standby_w": -1.0}, r"standby_w must be finite and not negative, got -1"),
        ({"standby_w": math.inf}, r"standby_w must be finite and not negative, got inf"),
    ],
)
def test_a_converter_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Converter(**options)


def test_a_hot_board_slows_down_until_it_is_clearly_cooler() -> None:
    throttle = ThermalThrottle(above_c=95.0, until_c=85.0, u=0.25)
    assert throttle.hot([84.9, 85.0, 94.9, 95.0], [False] * 4).tolist() == [False, False, False, True]
    assert throttle.hot([84.9, 85.0, 94.9, 95.0], [True] * 4).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"above_c": 80.0, "until_c": 85.0}, r"need until_c <= above_c, got until_c 85, above_c 80"),
        ({"above_c": math.nan}, r"need until_c <= above_c"),
        ({"u": 1.5}, r"u must lie in \[0, 1\], got 1\.5"),
    ],
)
def test_a_throttle_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThermalThrottle(**options)


def test_a_hot_board_computes_at_most_its_throttle() -> None:
    state = BoardState(
        battery=board().battery.state([0.5, 0.5]), temperature_c=np.full(2, 60.0), is_hot=np.array([True, False])
    )
    assert board().served_u([1.0, 1.0], state).tolist() == [0.25, 1.0]
    assert board().served_u([0.1, 0.1], state).tolist() == [0.1, 0.1]


def test_the_battery_pays_for_the_converter_and_the_board_warms_by_what_it_draws() -> None:
    made = board(converter=Converter(efficiency=0.8), thermal=ThermalNode(resistance_k_per_w=2.0, time_constant_s=1.0))
    after, flow = made.step(made.state(0.5, 10.0), panel_w=0.0, load_w=8.0, air_c=10.0, seconds=HOUR_S)
    assert flow.load_wh[0] == pytest.approx(10.0)
    assert after.battery.charge_wh[0] == pytest.approx(40.0)
    assert after.temperature_c[0] == pytest.approx(10.0 + 2.0 * 8.0)


def test_a_board_that_loses_power_within_the_hour_warms_by_what_it_got() -> None:
    made = board(converter=Converter(efficiency=1.0), thermal=ThermalNode(resistance_k_per_w=2.0, time_constant_s=1.0))
    after, flow = made.step(made.state(0.04, 20.0), panel_w=0.0, load_w=8.0, air_c=20.0, seconds=HOUR_S)
    assert flow.is_brown_out[0]
    assert after.temperature_c[0] == pytest.approx(20.0 + 2.0 * 8.0 * 0.5)


def test_a_board_gets_hot_at_the_end_of_a_step_and_the_battery_is_as_cold_as_the_air() -> None:
    made = board(
        thermal=ThermalNode(resistance_k_per_w=10.0, time_constant_s=1.0),
        throttle=ThermalThrottle(above_c=60.0, until_c=50.0),
    )
    after, flow = made.step(made.state(0.5, -5.0), panel_w=50.0, load_w=7.0, air_c=-5.0, seconds=HOUR_S)
    assert after.is_hot.tolist() == [True]
    assert after.battery.charge_wh[0] == 50.0  # nothing is charged below 0 degrees C
    assert flow.spilled_wh[0] == pytest.approx(50.0 - 7.0 / 0.9)


def test_a_board_that_starts_in_the_cold_is_on_above_the_cut_off_of_that_cold() -> None:
    state = board().state([0.15, 0.17, 0.15], np.array([0.0, 0.0, 20.0]))
    assert state.battery.is_on.tolist() == [False, True, True]
