"""Panel, load and thermal node, against hand-computed cases."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.plant import BoardLoad, Panel, ThermalNode


def test_under_standard_conditions_a_panel_gives_its_rated_power_less_the_derating() -> None:
    # Cells at 25 degrees C in full sun: the air is colder by what the sun heats them.
    panel = Panel(rated_w=40, derating=0.85, noct_c=45)
    assert panel.power_w(1000, air_c=25 - (45 - 20) * 1000 / 800) == pytest.approx(40 * 0.85)


def test_heat_costs_power_in_proportion() -> None:
    panel = Panel(rated_w=100, derating=1.0, temperature_coefficient=-0.004, noct_c=45)
    cell_c = 30 + (45 - 20) * 800 / 800
    assert panel.power_w(800, air_c=30) == pytest.approx(100 * 0.8 * (1 - 0.004 * (cell_c - 25)))


def test_cold_cells_give_more_than_rated() -> None:
    panel = Panel(rated_w=100, derating=1.0, temperature_coefficient=-0.004, noct_c=20)  # the sun does not heat it
    assert panel.power_w(1000, air_c=-15) == pytest.approx(100 * (1 + 0.004 * 40))


@pytest.mark.parametrize("irradiance_w_m2", [0.0, -3.0])
def test_without_light_there_is_no_power(irradiance_w_m2: float) -> None:
    assert Panel(rated_w=40).power_w(irradiance_w_m2, air_c=-20) == 0


def test_power_never_turns_negative_in_the_heat() -> None:
    assert Panel(rated_w=40, temperature_coefficient=-0.02).power_w(1000, air_c=80) == 0


def test_a_panel_takes_arrays_that_broadcast() -> None:
    panel = Panel(rated_w=40)
    irradiance, air_c = np.array([[0.0, 300.0, 900.0]]), np.array([[-10.0], [30.0]])
    together = panel.power_w(irradiance, air_c)
    assert together.shape == (2, 3)
    for i in range(2):
        for j in range(3):
            assert together[i, j] == panel.power_w(irradiance[0, j], air_c[i, 0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rated_w": -1}, r"rated_w must be finite and not negative, got -1$"),
        ({"rated_w": math.inf}, r"rated_w must be finite and not negative, got inf$"),
        ({"derating": 0}, r"derating must lie in \(0, 1\], got 0$"),
        ({"derating": 85}, r"derating must lie in \(0, 1\], got 85$"),
        (
            {"temperature_coefficient": -0.4},
            r"temperature_coefficient must lie in \[-0\.02, 0\] per K \(no percent\), got -0\.4$",
        ),
        ({"temperature_coefficient": 0.004}, r"temperature_coefficient must lie in .*, got 0\.004$"),
        ({"noct_c": 5}, r"noct_c must lie in \[20, 100\], got 5$"),
    ],
)
def test_a_panel_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Panel(**{"rated_w": 40, **options})


def test_load_grows_in_a_line_from_idle_to_full() -> None:
    board = BoardLoad(idle_w=2.2, compute_w=7.8)
    np.testing.assert_allclose(board.power_w([0, 0.25, 1]), [2.2, 2.2 + 7.8 / 4, 2.2 + 7.8], rtol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"idle_w": -0.1}, r"idle_w must be finite and not negative, got -0\.1$"),
        ({"compute_w": math.nan}, r"compute_w must be finite and not negative, got nan$"),
    ],
)
def test_a_load_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BoardLoad(**{"idle_w": 2, "compute_w": 5, **options})


@pytest.mark.parametrize(("share", "wrong"), [(1.1, "1.1"), ([0.5, -0.5], "-0.5"), (math.nan, "nan")])
def test_a_share_of_computing_that_cannot_be_is_refused(share: Any, wrong: str) -> None:
    with pytest.raises(ValueError, match=rf"compute_share must lie in \[0, 1\], got {wrong}$"):
        BoardLoad(idle_w=2, compute_w=5).power_w(share)


def test_a_board_settles_at_its_resistance_times_its_power_above_the_air() -> None:
    node = ThermalNode(resistance_k_per_w=1.4, time_constant_s=300)
    assert node.step(20.0, power_w=24.4, air_c=25.0, seconds=1e5) == pytest.approx(25 + 1.4 * 24.4)


def test_after_one_time_constant_a_share_of_1_over_e_is_left_of_the_way() -> None:
    node = ThermalNode(resistance_k_per_w=2, time_constant_s=600)
    steady = 10 + 2 * 5
    assert node.step(80.0, power_w=5, air_c=10, seconds=600) == pytest.approx(steady + (80 - steady) / math.e)


@given(st.floats(-40, 120), st.floats(0, 60), st.floats(-40, 50), st.floats(0, 1e5))
def test_two_half_steps_of_heating_are_one(before_c: float, power_w: float, air_c: float, seconds: float) -> None:
    node = ThermalNode()
    half = node.step(before_c, power_w=power_w, air_c=air_c, seconds=seconds / 2)
    twice = node.step(half, power_w=power_w, air_c=air_c, seconds=seconds / 2)
    assert twice == pytest.approx(node.step(before_c, power_w=power_w, air_c=air_c, seconds=seconds), abs=1e-9)


def test_heating_follows_its_differential_equation_in_small_slices() -> None:
    node = ThermalNode(resistance_k_per_w=3, time_constant_s=100)
    temperature_c, dt = 15.0, 0.01
    for _ in range(int(250 / dt)):
        temperature_c += dt / 100 * (20 + 3 * 6 - temperature_c)
    assert node.step(15.0, power_w=6, air_c=20, seconds=250) == pytest.approx(temperature_c, abs=1e-3)


def test_a_batch_of_boards_equals_them_one_by_one_bit_for_bit() -> None:
    node = ThermalNode()
    before_c, power_w, air_c = np.random.default_rng(0).uniform(0, 50, (3, 13))
    together = node.step(before_c, power_w=power_w, air_c=air_c, seconds=77)
    for i in range(13):
        alone = node.step(before_c[i], power_w=power_w[i], air_c=air_c[i], seconds=77)
        assert together[i].tobytes() == alone.tobytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resistance_k_per_w": 0}, r"resistance_k_per_w must be a finite number above 0, got 0$"),
        ({"time_constant_s": -1}, r"time_constant_s must be a finite number above 0, got -1$"),
        ({"time_constant_s": math.inf}, r"time_constant_s must be a finite number above 0, got inf$"),
    ],
)
def test_a_thermal_node_that_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ThermalNode(**options)


def test_time_does_not_run_backwards() -> None:
    with pytest.raises(ValueError, match=r"seconds must be finite and not negative, got -1$"):
        ThermalNode().step(20, power_w=1, air_c=20, seconds=-1)
