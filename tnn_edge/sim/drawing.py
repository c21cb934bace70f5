"""Traces drawn from a site's measured year: days reshuffled within their season, clouds between the hours, work."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.plant import Clouds, illuminance_lux
from tnn_edge.sim.climate import N_DAYS, Climate
from tnn_edge.sim.events import EventRate
from tnn_edge.sim.traces import Traces

__all__ = ["Sunlight", "Surroundings", "draw_traces", "surrounded"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

WINDOW_DAYS = 21
"""A day may stand in for one so far off in the calendar, and still has about its sun."""

_LUNATION_DAYS = 29.530589


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a camera has around it besides the weather.

    Attributes:
        lamp_lux: illuminance by lamps that always burn; a street light gives 10.
        moon_lux: illuminance of a full moon.
        haze: standard deviation of the logarithm by which a scene is worth less light than a light meter reads: fog,
            rain, backlight, dirt on the lens; 0 for none.
        haze_h: time constant of it.
        events: what there is to see.
        clouds: how light flickers between the hours.
    """

    lamp_lux: float = 10.0
    moon_lux: float = 0.2
    haze: float = 0.7
    haze_h: float = 3.0
    events: EventRate = field(default_factory=EventRate)
    clouds: Clouds = field(default_factory=Clouds)

    def __post_init__(self) -> None:
        for name in ("lamp_lux", "moon_lux", "haze"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value:g}")
        if not 0.0 < self.haze_h < math.inf:
            raise ValueError(f"haze_h must be a finite number above 0, got {self.haze_h:g}")


def draw_traces(
    climate: Climate,
    split: str,
    seeds: Sequence[int],
    *,
    n_days: int = N_DAYS,
    first_day: int = 1,
    step_s: float = 900.0,
    surroundings: Surroundings | None = None,
) -> Traces:
    """Draw one trace a seed, each from its own stream of random numbers alone.

    Every day of the calendar takes the sun and the air of a whole day of the pool, drawn among those within 21 days of
    it. Between the hours clouds move, while the energy of each hour stays what was measured.

    Args:
        climate: of the site.
        split: the pool of days.
        seeds: one a trace, not negative.
        n_days: length of the traces.
        first_day: of the year, 1 is January 1.
        step_s: length of a step, a divisor of an hour.
        surroundings: lamps, haze and work.

    Raises:
        InputError: the site has no such days, or an argument lies outside its range.
    """
    per_hour = round(3600.0 / step_s) if 0.0 < step_s <= 3600.0 else 0
    if per_hour == 0 or abs(per_hour * step_s - 3600.0) > 1e-9:
        raise InputError(f"step_s must divide an hour of 3600 s, got {step_s:g}")
    if n_days < 1:
        raise InputError(f"n_days must be at least 1, got {n_days}")
    if not 1 <= first_day <= N_DAYS:
        raise InputError(f"first_day must lie in [1, {N_DAYS}], got {first_day}")
    if not seeds or min(seeds) < 0:
        raise InputError(f"seeds must hold at least one whole number, none below 0, got {list(seeds)}")
    around = Surroundings() if surroundings is None else surroundings
    calendar = (first_day - 1 + np.arange(n_days)) % N_DAYS
    stands_in = _candidates(climate.days_of(split), calendar)
    n_steps, n = n_days * 24 * per_hour, len(seeds)
    days = np.empty((n, n_days), np.intp)
    normal = np.empty((4, n, n_steps))
    weekday, moon = np.empty(n), np.empty(n)
    for i, seed in enumerate(seeds):
        rng = _stream(climate.site, split, seed)
        days[i] = [pool[rng.integers(len(pool))] for pool in stands_in]
        weekday[i], moon[i] = rng.integers(7), rng.random()
        normal[:, i] = rng.standard_normal((4, n_steps))
    flicker = normal[0]
    _correlate(flicker, around.clouds.correlation_s / step_s)

    since_start_h = np.arange(0.5, n_steps, dtype=np.float64) * (step_s / 3600.0)
    hour, day = since_start_h % 24.0, np.floor(since_start_h / 24.0)
    day_of_year = calendar[day.astype(np.intp)].astype(np.float64) + 1.0
    irradiance = _with_clouds(
        climate.ghi_w_m2[days].reshape(n, -1),
        climate.clear_sky_w_m2(day_of_year, hour).reshape(-1, per_hour),
        flicker.reshape(n, -1, per_hour),
        around.clouds,
    )
    hour_ends_h = np.arange(1.0, n_days * 24 + 1.0)
    air_c = np.stack([np.interp(since_start_h, hour_ends_h, row) for row in climate.air_c[days].reshape(n, -1)])
    return surrounded(
        Sunlight(
            site=climate.site,
            step_s=step_s,
            hour=hour,
            day=day,
            day_of_year=day_of_year,
            irradiance_w_m2=irradiance,
            air_c=air_c,
        ),
        around,
        weekday=weekday,
        moon=moon,
        normal=normal[1:],
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Sunlight:
    """Sun and air, before anything else is drawn.

    Attributes:
        site: name of the place.
        step_s: length of a step in seconds.
        hour: local standard time in the middle of each step, shape [n_steps].
        day: days since the first midnight, whole numbers, shape [n_steps].
        day_of_year: shape [n_steps].
        irradiance_w_m2: shape [n, n_steps].
        air_c: shape [n, n_steps].
    """

    site: str
    step_s: float
    hour: Floats
    day: Floats
    day_of_year: Floats
    irradiance_w_m2: Floats
    air_c: Floats


def surrounded(sun: Sunlight, around: Surroundings, *, weekday: Floats, moon: Floats, normal: Floats) -> Traces:
    """Traces of sunlight with lamps, moon, haze and work about them.

    Args:
        sun: sun and air.
        around: what else there is.
        weekday: of the first day, 0 to 6, shape [n].
        moon: its phase then, 0 is new, in [0, 1), shape [n].
        normal: independent standard normal numbers for haze, bursts and confidence, shape [3, n, n_steps]; changed.
    """
    haze, bursts, confidence_z = normal
    _correlate(haze, around.haze_h * 3600.0 / sun.step_s)
    _correlate(bursts, around.events.burst_h * 3600.0 / sun.step_s)
    moonlight = around.moon_lux * (0.5 - 0.5 * np.cos(2.0 * np.pi * (moon[:, None] + sun.day / _LUNATION_DAYS)))
    lux = illuminance_lux(sun.irradiance_w_m2, around.lamp_lux + moonlight)
    expected = around.events.expected(sun.hour, (weekday[:, None] + sun.day) % 7.0)
    return Traces(
        site=sun.site,
        step_s=sun.step_s,
        hour=sun.hour,
        day_of_year=sun.day_of_year,
        irradiance_w_m2=sun.irradiance_w_m2,
        air_c=sun.air_c,
        lux=lux,
        scene_lux=lux * np.exp(-around.haze * np.abs(haze)),
        events_per_h=expected * around.events.bursts(bursts),
        confidence_z=confidence_z,
    )


def _stream(site: str, split: str, seed: int) -> np.random.Generator:
    """Random numbers of a year.

    Years for tests go by their seed alone, at all sites alike. Every other pool of every site has its own, so that not
    only the days but clouds and work of a test are none that anything was learned from.
    """
    if split == "test":
        return np.random.Generator(np.random.Philox(seed))
    pool = int.from_bytes(hashlib.sha256(f"{site} {split}".encode()).digest()[:8], "little")
    return np.random.Generator(np.random.Philox(key=[seed, pool]))


def _candidates(pool: Ints, calendar: Ints) -> list[Ints]:
    """For each day of a calendar those of a pool that may stand in for it."""
    off = np.abs(pool[None, :] - np.arange(N_DAYS)[:, None])
    near = np.minimum(off, N_DAYS - off) <= WINDOW_DAYS  # [day of the year, day of the pool]
    by_day = [pool[row] for row in near]
    return [by_day[day] for day in calendar]


def _correlate(noise: Floats, time_constant_steps: float) -> None:
    """Make independent standard normal numbers an Ornstein-Uhlenbeck process along the last axis, in place."""
    keep = math.exp(-1.0 / time_constant_steps)
    noise[:, 1:] *= math.sqrt(1.0 - keep * keep)
    by_step = np.ascontiguousarray(noise.T)
    for t in range(1, len(by_step)):
        by_step[t] += keep * by_step[t - 1]
    noise[:] = by_step.T


def _with_clouds(ghi: Floats, clear: Floats, flicker: Floats, clouds: Clouds) -> Floats:
    """Irradiance at each step: the clear sky's course within an hour, flickering, with the hour's mean as measured.

    Args:
        ghi: mean of each hour, shape [n, n_hours].
        clear: clear sky at each step, shape [n_hours, per_hour].
        flicker: standard normal process, shape [n, n_hours, per_hour].
        clouds: how the share of the clear sky's light fluctuates.

    Returns:
        Shape [n, n_hours * per_hour].
    """
    sun = clear.mean(axis=1)
    share = np.clip(ghi / np.maximum(sun, 1.0) / clouds.max_index, 0.02, 0.98)
    logit = np.log(share / (1.0 - share))[..., None] + clouds.variability * flicker
    shape = np.where(sun > 1.0, clear.T, 1.0).T  # with the sun on the horizon an hour is as it is
    weight = (0.5 + 0.5 * np.tanh(0.5 * logit)) * shape
    flickering = weight * (ghi[..., None] / weight.mean(axis=-1, keepdims=True))
    course = shape / shape.mean(axis=1, keepdims=True) * ghi[..., None]
    # Where the hour's energy would make a step brighter than clouds can, it flickers less.
    off = flickering - course
    room = np.maximum(clouds.max_index * clear - course, 0.0)
    calm = np.min(np.divide(room, off, out=np.ones_like(off), where=off > room), axis=-1, keepdims=True)
    return np.asarray((course + calm * off).reshape(len(ghi), -1))
