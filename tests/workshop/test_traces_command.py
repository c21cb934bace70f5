"""The years that ship are those of pvlib, and `bake` writes what can be read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pvlib
import pytest
from typer.testing import CliRunner, Result

from tnn_edge.errors import InputError
from tnn_edge.plant.sun import solar_lead_h
from tnn_edge.sim.climate import SITES, read_climate
from tnn_edge.sim.traces import Traces
from train.traces import app, pack_site


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


@pytest.mark.parametrize("site", SITES)
def test_the_shipped_year_is_that_of_pvlib(site: str) -> None:
    shipped, packed = read_climate(site), pack_site(site)
    np.testing.assert_array_equal(shipped.ghi_w_m2, packed.ghi_w_m2)
    np.testing.assert_allclose(shipped.air_c, packed.air_c, atol=1e-9)
    assert shipped.latitude_deg == packed.latitude_deg
    assert shipped.utc_offset_h == packed.utc_offset_h


@pytest.mark.parametrize("site", SITES)
def test_the_clear_sky_is_that_of_pvlib(site: str) -> None:
    climate = read_climate(site)
    hours = np.arange(0.5, 24.0)
    for day in range(1, 366, 26):
        start = pd.Timestamp(2021, 1, 1) + pd.Timedelta(days=day - 1)
        times = pd.DatetimeIndex([start + pd.Timedelta(hours=h - climate.utc_offset_h) for h in hours], tz="UTC")
        sun = pvlib.solarposition.get_solarposition(times, climate.latitude_deg, climate.longitude_deg)
        expected = pvlib.clearsky.haurwitz(sun["zenith"])["ghi"].to_numpy()
        np.testing.assert_allclose(climate.clear_sky_w_m2(float(day), hours), expected, atol=15.0)


def test_solar_time_is_that_of_pvlib_within_half_a_minute() -> None:
    days = np.arange(1, 366)
    minutes = 60.0 * solar_lead_h(days, longitude_deg=0.0, utc_offset_h=0.0)
    np.testing.assert_allclose(minutes, pvlib.solarposition.equation_of_time_spencer71(days), atol=0.5)


def test_bake_writes_traces_and_tells_their_hash(tmp_path: Path) -> None:
    result = run("bake", "--site", "miami", "--split", "test", "--n", "2", "--days", "3", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    path = tmp_path / "miami-test-2x3d-900s-0.npz"
    traces = Traces.load(path)
    assert traces.irradiance_w_m2.shape == (2, 3 * 96)
    assert f"SHA-256 {traces.save(tmp_path / 'again.npz')}" in result.output
    assert "2 traces of 3 days" in result.output


def test_bake_refuses_to_learn_from_the_site_that_is_kept_for_tests(tmp_path: Path) -> None:
    result = run("bake", "--site", "sand_point", "--split", "train", "--out", str(tmp_path))
    assert isinstance(result.exception, InputError)
    assert "sand_point is kept for tests" in str(result.exception)
    assert not list(tmp_path.iterdir())
