"""Measurements of a user's own: what becomes of them, what is filled in, what is refused."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.device.test_simulate_command import PRICE, edited, simulate
from tnn_edge.errors import ConfigError, InputError
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.trace_csv import CsvReport, read_trace_csv
from tnn_edge.sim.traces import Traces

PAYERNE = Path(__file__).parents[3] / "shared/data/irradiance/payerne-2016-06-d01-20.csv"

MIAMI: dict[str, float] = {"latitude_deg": 25.8, "longitude_deg": -80.27, "utc_offset_h": -5.0}


def sunlight(n_days: int = 6) -> npt.NDArray[np.float64]:
    """GHI of every 15 minutes at Miami from June 1 on."""
    drawn = draw_traces(read_climate("miami"), "test", [0], n_days=n_days, first_day=152)
    return np.array(drawn.irradiance_w_m2[0])


def write(path: Path, ghi: npt.NDArray[np.float64], *, zone_h: float = -5.0, keep: Any = None) -> list[str]:
    """A file with a line for each step, stamped at its beginning; of those that `keep` marks."""
    begin = datetime(2026, 6, 1, tzinfo=timezone(timedelta(hours=zone_h)))
    lines = ["time,ghi,temp_air,wind"]
    for i, value in enumerate(ghi):
        if keep is None or keep[i]:
            text = "" if np.isnan(value) else f"{value:.4f}"
            lines.append(f"{(begin + timedelta(minutes=15 * i)).isoformat()},{text},{20 + i % 5},1")
    path.write_text("\n".join(lines) + "\n")
    return lines


def read(path: Path, **changes: Any) -> tuple[Traces, CsvReport]:
    return read_trace_csv(path, **{**MIAMI, **changes})


def test_what_was_measured_comes_back(tmp_path: Path) -> None:
    ghi = sunlight()
    write(tmp_path / "roof.csv", ghi)
    traces, report = read(tmp_path / "roof.csv", seeds=(1, 2))
    np.testing.assert_allclose(traces.irradiance_w_m2, np.tile(ghi, (2, 1)), atol=1e-4)
    np.testing.assert_allclose(traces.air_c[0], 20.0 + np.arange(len(ghi)) % 5)
    assert traces.site == "roof"
    assert traces.day_of_year[0] == 152.0
    assert traces.hour[0] == 0.125
    assert (traces.events_per_h[0] != traces.events_per_h[1]).any()
    assert report == CsvReport(n_days=6, n_gaps=0, longest_gap_h=0.0, share_filled=0.0, n_negative=0, has_air=True)


def test_times_in_another_zone_mean_the_same_moments(tmp_path: Path) -> None:
    ghi = sunlight()
    lines = write(tmp_path / "a.csv", ghi)
    rows = [line.split(",", 1) for line in lines[1:]]
    utc = [f"{datetime.fromisoformat(time).astimezone(timezone.utc).isoformat()},{rest}" for time, rest in rows]
    (tmp_path / "b.csv").write_text("\n".join([lines[0], *utc]).replace("+00:00", "Z"))
    first, second = read(tmp_path / "a.csv")[0], read(tmp_path / "b.csv")[0]
    np.testing.assert_array_equal(first.irradiance_w_m2, second.irradiance_w_m2)


def test_days_that_are_not_whole_are_left_out(tmp_path: Path) -> None:
    ghi = sunlight()
    keep = np.ones(len(ghi), bool)
    keep[:30] = keep[-10:] = False
    write(tmp_path / "a.csv", ghi, keep=keep)
    traces, report = read(tmp_path / "a.csv")
    assert report.n_days == 4
    assert traces.day_of_year[0] == 153.0
    np.testing.assert_allclose(traces.irradiance_w_m2[0], ghi[96:-96], atol=1e-4)


def test_gaps_are_filled_by_the_rule_counted_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ghi = sunlight()
    broken = ghi.copy()
    long, short = slice(2 * 96 + 40, 2 * 96 + 60), slice(4 * 96 + 48, 4 * 96 + 51)
    broken[short] = np.nan
    keep = np.ones(len(ghi), bool)
    keep[long] = False
    write(tmp_path / "a.csv", broken, keep=keep)
    with caplog.at_level(logging.WARNING):
        traces, report = read(tmp_path / "a.csv")
    assert (report.n_gaps, report.longest_gap_h) == (2, 5.0)
    assert report.share_filled == pytest.approx(23 / len(ghi))
    assert "a.csv: 2 gaps filled, the longest of 5 h" in caplog.text
    filled = traces.irradiance_w_m2[0]
    np.testing.assert_allclose(filled[long], ghi[96 + 40 : 96 + 60], atol=1e-4)  # the day before: the nearest
    climate = read_climate("miami")
    clear = climate.clear_sky_w_m2(traces.day_of_year, traces.hour)
    index = filled / np.maximum(clear, 1.0)
    np.testing.assert_allclose(np.diff(index[4 * 96 + 47 : 4 * 96 + 52], 2), 0.0, atol=1e-3)


def test_a_little_below_zero_at_night_is_zero_and_counted(tmp_path: Path) -> None:
    ghi = sunlight()
    ghi[ghi == 0.0] = -2.0
    write(tmp_path / "a.csv", ghi)
    traces, report = read(tmp_path / "a.csv")
    assert (traces.irradiance_w_m2 >= 0.0).all()
    assert report.n_negative == (ghi == -2.0).sum()


def test_without_air_temperatures_the_usual_one_is_taken(tmp_path: Path) -> None:
    lines = write(tmp_path / "a.csv", sunlight())
    (tmp_path / "a.csv").write_text("\n".join(",".join(line.split(",")[:2]) for line in lines))
    traces, report = read(tmp_path / "a.csv")
    assert not report.has_air
    assert (traces.air_c == 20.0).all()


def test_a_wrong_time_zone_is_found_by_the_sun(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", sunlight(), zone_h=1.0)
    message = r"the light has its middle at \d+\.\d h of solar time in place of 12; the time zone .* wrong by about 6 h"
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (1, "when,ghi", r"a\.csv:1: no column is called time_utc or time; there are when, ghi"),
        (1, "time,sun,temp_air,wind", r"a\.csv:1: no column is called ghi; there are time, sun, temp_air, wind"),
        (5, "2026-06-01T00:45:00,0,20,1", r"a\.csv:5: the time .* has no offset to UTC; write 2026-06-01T00:45:00\+00"),
        (5, "noon,0,20,1", r"a\.csv:5: 'noon' is no time; write 2026-06-01T12:00:00\+02:00"),
        (5, "2026-06-01T00:30:00-05:00,0,20,1", r"a\.csv:5: the time .* is there twice; sort the file and keep one"),
        (5, "2026-06-01T00:10:00-05:00,0,20,1", r"a\.csv:5: the time .* is before the one above it; sort the file"),
        (
            5,
            "2026-06-01T00:45:00-05:00,-50,20,1",
            r"a\.csv:5: ghi is -50; leave it empty .*; ghi lies in \[-10, 1600\]",
        ),
        (5, "2026-06-01T00:45:00-05:00,9999,20,1", r"a\.csv:5: ghi is 9999; leave it empty where it is missing"),
        (5, "2026-06-01T00:45:00-05:00,bright,20,1", r"a\.csv:5: ghi 'bright' is no number; leave it empty"),
        (5, "2026-06-01T00:45:00-05:00,0,200,1", r"a\.csv:5: temp_air is 200; leave it empty"),
        (5, "2026-06-01T00:45:00-05:00,0", r"a\.csv:5: 2 values for 4 columns"),
    ],
)
def test_a_fault_is_told_with_its_line(line: int, text: str, message: str, tmp_path: Path) -> None:
    lines = write(tmp_path / "a.csv", sunlight())
    lines[line - 1] = text
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(InputError, match=message):
        read(tmp_path / "a.csv")


def test_a_file_that_holds_too_little_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("")
    with pytest.raises(InputError, match=r"a\.csv is empty; it needs the columns time and ghi"):
        read(path)
    path.write_text("time,ghi\n")
    with pytest.raises(InputError, match=r"a\.csv holds 0 rows of values; a day is the least"):
        read(path)
    write(path, sunlight()[:90])
    with pytest.raises(InputError, match=r"a\.csv holds no whole day from midnight to midnight at UTC-5 h"):
        read(path)
    ghi = sunlight()
    ghi[: 4 * 96] = np.nan
    write(path, ghi)
    with pytest.raises(InputError, match=r"67 % of its days are missing; half is the most"):
        read(path)
    write(path, np.zeros(3 * 96))
    with pytest.raises(InputError, match="ghi is 0 throughout"):
        read(path)
    with pytest.raises(InputError, match=r"cannot read .*none\.csv"):
        read(tmp_path / "none.csv")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"a\.csv is no CSV file of UTF-8 text"):
        read(path)


def test_values_that_are_further_apart_than_steps_are_refused_with_the_step_that_fits(tmp_path: Path) -> None:
    ghi = sunlight()
    keep = np.arange(len(ghi)) % 4 == 0
    write(tmp_path / "a.csv", ghi, keep=keep)
    with pytest.raises(InputError, match=r"a value every 3600 s, and a step takes 900 s; set period_s = 3600"):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", step_s=3600.0)[1].n_gaps == 0


def test_the_date_is_that_of_the_calendar_over_new_year(tmp_path: Path) -> None:
    begin = datetime(2025, 12, 30, tzinfo=timezone(timedelta(hours=-5)))
    ghi = sunlight(4)
    lines = [f"{(begin + timedelta(minutes=15 * i)).isoformat()},{value:.3f}" for i, value in enumerate(ghi)]
    (tmp_path / "a.csv").write_text("\ufefftime,ghi\n" + "\n".join(lines) + "\n")  # as a spreadsheet writes it
    assert sorted(set(read(tmp_path / "a.csv")[0].day_of_year)) == [1.0, 2.0, 364.0, 365.0]


def test_a_simulation_takes_a_file_in_place_of_a_site(tmp_path: Path) -> None:
    write(tmp_path / "roof.csv", sunlight())
    table = '[sunlight]\ncsv = "roof.csv"\nlatitude_deg = 25.8\nlongitude_deg = -80.27\nutc_offset_h = -5\n'
    config = edited(tmp_path, 'site = "greensboro"', "")
    config.write_text(config.read_text() + table)
    result = simulate("--policy", PRICE, config=config)
    assert result.exit_code == 0, result.output
    assert "6 days at roof" in result.output
    short = simulate("--policy", PRICE, "--days", 7, config=config)
    assert "roof.csv holds 6 whole days, fewer than the 7 that are asked for" in str(short.exception)
    config.write_text('site = "miami"\n' + config.read_text())
    both = simulate("--policy", PRICE, config=config)
    assert isinstance(both.exception, ConfigError)
    assert "there must be either site" in str(both.exception)


@pytest.mark.skipif(not PAYERNE.is_file(), reason="measured data that the project does not ship")
def test_sunlight_that_no_model_drew_is_read(caplog: pytest.LogCaptureFixture) -> None:
    traces, report = read_trace_csv(PAYERNE, latitude_deg=46.815, longitude_deg=6.944, utc_offset_h=1.0, step_s=60.0)
    assert (report.n_days, report.n_gaps) == (19, 2)  # the others lie before the first midnight there
    assert report.longest_gap_h < 0.5
    assert "gaps filled" in caplog.text
    daily_kwh = traces.irradiance_w_m2.sum() * 60.0 / 3.6e6 / report.n_days
    assert 3.0 < daily_kwh < 7.0
