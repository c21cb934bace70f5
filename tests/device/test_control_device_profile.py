from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.bundle import LightTable
from tnn_edge.control import DeviceProfile, profile_of_network, read_profile, reference_profile
from tnn_edge.errors import ConfigError, InputError

FILE = """
source = "bench, 2026"
is_modelled = false
idle_w = 2.0
u = [0.0, 0.5, 1.0]
power_w = [0.5, 2.0, 4.0]
lux = [1.0, 100.0]
accuracy = [[0.2, 0.6], [0.3, 0.7], [0.4, 0.8]]
confidence = [[0.3, 0.6], [0.4, 0.7], [0.5, 0.8]]
"""


def test_reference_profile_follows_its_formula() -> None:
    profile = reference_profile()
    u, lux = profile.u[5], profile.lux[7]
    curve = 0.55 + 0.40 * (1 - np.exp(-3 * u)) / (1 - np.exp(-3))
    assert profile.accuracy_at([lux])[0, 5] == pytest.approx(curve * lux / (lux + 5), rel=1e-12)
    assert (profile.power_w == 7.8 * profile.u).all()


def test_a_throttle_is_served_by_the_point_at_or_below_it() -> None:
    profile = reference_profile()
    assert profile.point_at([0.0, 0.0624, 0.0625, 0.3 - 1e-12, 1.0]).tolist() == [0, 0, 1, 4, 16]
    assert profile.point_at(profile.u).tolist() == list(range(17))


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_more_light_is_never_worth_less_in_the_reference_profile(a: float, b: float) -> None:
    low, high = reference_profile().accuracy_at(sorted([a, b]))
    assert (low <= high + 1e-15).all()


def test_light_between_levels_is_linear_in_its_logarithm_and_level_beyond_them(tmp_path: Path) -> None:
    (tmp_path / "p.toml").write_text(FILE)
    profile = read_profile(tmp_path / "p.toml")
    np.testing.assert_allclose(profile.accuracy_at([0.0, 1.0, 10.0, 1e9])[:, 1], [0.3, 0.3, 0.5, 0.7])
    assert np.isnan(profile.accuracy_at([np.nan])).all()


def test_numbers_of_a_profile_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="read-only"):
        reference_profile().power_w[0] = 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("u = [0.0,", "u = [0.1,", r"u must rise from 0 to at most 1, got \[0.1, 0.5, 1.0\]"),
        ("[0.5, 2.0, 4.0]", "[0.5, 2.0]", "power_w has 2 numbers for 3 operating points"),
        ("[0.5, 2.0, 4.0]", "[0.5, 4.0, 2.0]", "power_w must be finite, at least 0 and not fall"),
        ("[0.5, 2.0, 4.0]", "[0.0, 0.0, 0.0]", "power_w is 0 at the last operating point"),
        ("idle_w = 2.0", "idle_w = -2.0", "idle_w must be finite and not negative, got -2"),
        ("[1.0, 100.0]", "[0.0, 100.0]", "lux must have two levels or more, rise and be above 0"),
        ("[[0.2, 0.6],", "[[0.2],", "lists differ in length"),
        ("[[0.2, 0.6],", "[[1.2, 0.6],", r"accuracy must lie in \[0, 1\]"),
        ("power_w = [0.5, 2.0, 4.0]\n", "", "power_w: missing: power in W on top of idle_w at each of them"),
    ],
)
def test_a_faulty_profile_is_refused_with_the_reason(tmp_path: Path, old: str, new: str, message: str) -> None:
    (tmp_path / "p.toml").write_text(FILE.replace(old, new))
    with pytest.raises(ConfigError, match=message):
        read_profile(tmp_path / "p.toml")


def _light() -> LightTable:
    return LightTable(
        lux=(1.0, 100.0),
        accuracy=((0.2, 0.6), (0.4, 0.8)),
        confidence=((0.3, 0.6), (0.5, 0.8)),
        calibration_error=((0.1, 0.1), (0.1, 0.1)),
        n_images=10,
        sensor={"full_well": 1000.0},
    )


def _of_network(**changes: object) -> DeviceProfile:
    settings = {
        "u": [0.0, 1.0],
        "light": _light(),
        "energy_mj": [10.0, 40.0],
        "frames_per_s": 25.0,
        "idle_w": 2.0,
        "source": "net",
        "is_modelled": False,
    }
    return profile_of_network(**{**settings, **changes})  # type: ignore[arg-type]


def test_power_of_a_network_is_energy_times_frame_rate() -> None:
    np.testing.assert_allclose(_of_network().power_w, [0.25, 1.0])


def test_a_network_without_energy_is_refused_with_the_point() -> None:
    with pytest.raises(InputError, match=r"net: no energy is known at u = 1; measure it with tnn-edge profile"):
        _of_network(energy_mj=[10.0, None])


def test_a_network_without_light_table_is_refused() -> None:
    with pytest.raises(InputError, match="no table of accuracy by light"):
        _of_network(light=None)
