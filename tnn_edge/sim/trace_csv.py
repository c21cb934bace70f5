"""Traces from somebody's own measurements of sunlight: steps, gaps, and a look at the time zone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.plant.sun import clear_sky_w_m2, sin_elevation, solar_lead_h
from tnn_edge.sim.drawing import Sunlight, Surroundings, surrounded
from tnn_edge.sim.sunlight_csv import USUAL_AIR_C, Samples, read_samples
from tnn_edge.sim.traces import Traces

__all__ = ["CsvReport", "read_trace_csv"]

_log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_SHORT_GAP_S = 3600.0
_BRIGHTEST_SHARE = 1.3
_MOST_MISSING = 0.5
_MOST_OFF_H = 1.5
_DAY_S = 86_400.0


@dataclass(frozen=True, kw_only=True)
class CsvReport:
    """What was done to a file to make traces of it.

    Attributes:
        n_days: whole days that were kept.
        n_gaps: stretches of steps without any value, which were filled.
        longest_gap_h: length of the longest.
        share_filled: part of all steps that was filled.
        n_negative: readings below 0 that were taken for 0.
        has_air: whether the file has air temperatures; if not, 20 degrees C are taken.
    """

    n_days: int
    n_gaps: int
    longest_gap_h: float
    share_filled: float
    n_negative: int
    has_air: bool


def read_trace_csv(
    path: Path,
    *,
    latitude_deg: float,
    longitude_deg: float,
    utc_offset_h: float,
    seeds: Sequence[int] = (0,),
    step_s: float = 900.0,
    surroundings: Surroundings | None = None,
) -> tuple[Traces, CsvReport]:
    """Read a CSV file of sunlight, and draw lamps, haze and work about it.

    Values are averaged over steps. The first and last days count if they are there from the first to the last step.
    Gaps are filled by this rule, counted, and logged as a warning: in up to an hour without values the share of the
    clear sky runs in a straight line; a longer gap takes the same times of the nearest day that has them.

    Args:
        path: columns as `tnn_edge.sim.sunlight_csv.read_samples` says.
        latitude_deg: degrees north.
        longitude_deg: degrees east.
        utc_offset_h: of local standard time, by which days begin and the policy's hour is told.
        seeds: one for each trace; they differ in haze and work.
        step_s: length of a step, a divisor of an hour.
        surroundings: lamps, haze and work.

    Raises:
        InputError: a fault in the file, with its line; no whole day; too much is missing; or the sun of the file does
            not stand where it does at that place, as with a wrong time zone.
    """
    per_day = round(_DAY_S / step_s) if step_s > 0.0 else 0
    if per_day < 24 or abs(per_day * step_s - _DAY_S) > 1e-6 or per_day % 24:
        raise InputError(f"step_s must divide an hour of 3600 s, got {step_s:g}")
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds must hold at least one whole number, none below 0, got {list(seeds)}")
    samples = read_samples(path, utc_offset_h=utc_offset_h)
    spacing_s = float(np.median(np.diff(samples.seconds)))
    if spacing_s > 1.5 * step_s:
        way_out = f"set period_s = {spacing_s:g}" if spacing_s <= 3600.0 else "an hour is the most"
        raise InputError(f"{path} has a value every {spacing_s:g} s, and a step takes {step_s:g} s; {way_out}")
    ghi, air = _by_steps(samples, samples.ghi_w_m2, step_s), _by_steps(samples, samples.air_c, step_s)
    n_before = int(samples.seconds[0] // step_s)
    skipped = -(-n_before // per_day)
    n_days = len(ghi) // per_day - skipped
    if n_days < 1:
        raise InputError(f"{path} holds no whole day from midnight to midnight at UTC{utc_offset_h:+g} h")
    kept = slice(skipped * per_day, (skipped + n_days) * per_day)
    ghi, air = ghi[kept], air[kept]
    n_steps = len(ghi)
    hours = np.arange(0.5, n_steps, dtype=np.float64) * (step_s / 3600.0)
    day = np.floor(hours / 24.0)
    dates = [samples.first_day + timedelta(days=skipped + i) for i in range(n_days)]
    day_of_year = np.repeat([float(date.timetuple().tm_yday) for date in dates], per_day)
    clear = _clear_sky(latitude_deg, longitude_deg, utc_offset_h, day_of_year, hours % 24.0)
    is_missing = np.isnan(ghi)
    if is_missing.mean() > _MOST_MISSING:
        raise InputError(f"{path}: {100.0 * is_missing.mean():.0f} % of its days are missing; half is the most")
    _check_noon(
        path, ghi, hours % 24.0, solar_lead_h(day_of_year, longitude_deg=longitude_deg, utc_offset_h=utc_offset_h)
    )
    filled = _filled(ghi, clear, per_day, max_short=round(_SHORT_GAP_S / step_s))
    lengths = _gap_lengths(is_missing)
    report = CsvReport(
        n_days=n_days,
        n_gaps=len(lengths),
        longest_gap_h=max(lengths, default=0) * step_s / 3600.0,
        share_filled=float(is_missing.mean()),
        n_negative=samples.n_negative,
        has_air=samples.has_air,
    )
    if lengths:
        _log.warning(
            "%s: %d gaps filled, the longest of %g h, %.1f %% of its days",
            path,
            report.n_gaps,
            report.longest_gap_h,
            100.0 * report.share_filled,
        )
    known = ~np.isnan(air)
    air_c = np.interp(hours, hours[known], air[known]) if known.any() else np.full(n_steps, USUAL_AIR_C)
    n = len(seeds)
    normal, weekday, moon = np.empty((3, n, n_steps)), np.empty(n), np.empty(n)
    for i, seed in enumerate(seeds):
        rng = np.random.Generator(np.random.Philox(seed))
        weekday[i], moon[i] = rng.integers(7), rng.random()
        normal[:, i] = rng.standard_normal((3, n_steps))
    sun = Sunlight(
        site=path.stem,
        step_s=step_s,
        hour=hours % 24.0,
        day=day,
        day_of_year=day_of_year,
        irradiance_w_m2=np.tile(filled, (n, 1)),
        air_c=np.tile(air_c, (n, 1)),
    )
    around = Surroundings() if surroundings is None else surroundings
    return surrounded(sun, around, weekday=weekday, moon=moon, normal=normal), report


def _by_steps(samples: Samples, values: Floats, step_s: float) -> Floats:
    """Mean of the values in each step from the first midnight on, NaN where there is none."""
    step = (samples.seconds // step_s).astype(np.intp)
    known = ~np.isnan(values)
    n_steps = int(step[-1]) + 1
    total = np.bincount(step[known], weights=values[known], minlength=n_steps)
    count = np.bincount(step[known], minlength=n_steps)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _clear_sky(
    latitude_deg: float, longitude_deg: float, utc_offset_h: float, day_of_year: Floats, hour: Floats
) -> Floats:
    solar = hour + solar_lead_h(day_of_year, longitude_deg=longitude_deg, utc_offset_h=utc_offset_h)
    return clear_sky_w_m2(sin_elevation(latitude_deg, day_of_year + (solar - 12.0) / 24.0, solar))


def _check_noon(path: Path, ghi: Floats, hour: Floats, lead_h: Floats) -> None:
    """The light of many days is about as much before the sun's noon as after it.

    Raises:
        InputError: it is not.
    """
    light = np.nan_to_num(ghi)
    if light.sum() <= 0.0:
        raise InputError(f"{path}: ghi is 0 throughout")
    turn = np.exp(2j * np.pi * (hour + lead_h) / 24.0)  # a clock has no ends
    middle_h = (np.angle((light * turn).sum()) * 24.0 / (2.0 * np.pi)) % 24.0
    off_h = (middle_h - 12.0 + 12.0) % 24.0 - 12.0
    if abs(off_h) > _MOST_OFF_H:
        raise InputError(
            f"{path}: the light has its middle at {middle_h:.1f} h of solar time in place of 12; the time zone of its "
            f"times, or the longitude, looks wrong by about {abs(off_h):.0f} h"
        )


def _filled(ghi: Floats, clear: Floats, per_day: int, *, max_short: int) -> Floats:
    """Irradiance without gaps; see `read_trace_csv` for the rule."""
    share = np.minimum(ghi / np.maximum(clear, 1.0), _BRIGHTEST_SHARE)
    known = np.flatnonzero(~np.isnan(ghi))
    filled = ghi.copy()
    by_day = ghi.reshape(-1, per_day)
    days = np.arange(len(by_day))
    end = 0
    for length in _gap_lengths(np.isnan(ghi)):
        begin = end + int(np.isnan(ghi[end:]).argmax())
        end = begin + length
        steps = np.arange(begin, end)
        if length <= max_short:
            filled[steps] = np.interp(steps, known, share[known]) * np.maximum(clear[steps], 0.0)
            continue
        for step in steps:
            has = np.flatnonzero(~np.isnan(by_day[:, step % per_day]))
            if has.size == 0:  # no day has that time: as bright as the days are
                bright = share[known][clear[known] > 50.0]
                filled[step] = (np.median(bright) if bright.size else 0.5) * clear[step]
            else:
                filled[step] = by_day[has[np.abs(days[has] - step // per_day).argmin()], step % per_day]
    return filled


def _gap_lengths(is_missing: Bools) -> list[int]:
    """Lengths of the stretches of steps without a value, in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_missing, [False]]).astype(np.int8)))
    return [int(length) for length in edges[1::2] - edges[::2]]
