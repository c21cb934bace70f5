"""Sun, clouds and weather, against astronomy and plain formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.plant import LUMENS_PER_WATT, Clouds, Site, Weather, illuminance_lux

Floats = npt.NDArray[np.float64]

OBLIQUITY_DEG = 23.44
SPRING, SUMMER, AUTUMN, WINTER = 80, 172, 266, 356
MINUTES_H = (np.arange(24 * 60) + 0.5) / 60


def elevation_deg(site: Site, hours: npt.ArrayLike) -> Floats:
    return np.asarray(np.degrees(np.arcsin(site.sin_elevation(hours))))


def generators(n: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in range(n)]


@pytest.mark.parametrize("day", [SPRING, AUTUMN])
@pytest.mark.parametrize("latitude_deg", [-60, -20, 0, 35, 66])
def test_at_an_equinox_the_noon_sun_stands_at_90_degrees_less_the_latitude(day: int, latitude_deg: float) -> None:
    noon_deg = elevation_deg(Site(latitude_deg=latitude_deg, day_of_year=day), 12.0)
    assert noon_deg == pytest.approx(90 - abs(latitude_deg), abs=0.5)


@pytest.mark.parametrize(
    ("day", "longitude_deg"),
    [(35, 315), (SPRING, 0), (126, 45), (SUMMER, 90), (219, 135), (AUTUMN, 180), (311, 225), (WINTER, 270)],
    ids=["4 Feb", "21 Mar", "6 May", "21 Jun", "7 Aug", "23 Sep", "7 Nov", "22 Dec"],
)
def test_through_the_year_the_sun_follows_the_ecliptic(day: int, longitude_deg: float) -> None:
    # On these dates the sun has gone the next eighth of its way; its declination is the ecliptic's height there.
    declination_deg = math.degrees(
        math.asin(math.sin(math.radians(OBLIQUITY_DEG)) * math.sin(math.radians(longitude_deg)))
    )
    assert elevation_deg(Site(latitude_deg=45, day_of_year=day), 12.0) == pytest.approx(45 + declination_deg, abs=0.5)


def test_beyond_the_polar_circle_the_sun_stays_down_in_winter_and_up_in_summer() -> None:
    assert (Site(latitude_deg=70, day_of_year=WINTER).sin_elevation(MINUTES_H) < 0).all()
    assert (Site(latitude_deg=70, day_of_year=WINTER).clear_sky_w_m2(MINUTES_H) == 0).all()
    assert (Site(latitude_deg=70, day_of_year=SUMMER).sin_elevation(MINUTES_H) > 0).all()
    assert (Site(latitude_deg=-70, day_of_year=WINTER).sin_elevation(MINUTES_H) > 0).all()


@pytest.mark.parametrize(("day", "declination_deg"), [(SUMMER, OBLIQUITY_DEG), (WINTER, -OBLIQUITY_DEG)])
@pytest.mark.parametrize("latitude_deg", [-50, 0, 36, 60])
def test_a_solstice_is_as_long_as_the_sunrise_equation_says(
    day: int, declination_deg: float, latitude_deg: float
) -> None:
    up_h = (Site(latitude_deg=latitude_deg, day_of_year=day).sin_elevation(MINUTES_H) > 0).mean() * 24
    half_day = math.acos(-math.tan(math.radians(latitude_deg)) * math.tan(math.radians(declination_deg)))
    assert up_h == pytest.approx(24 * half_day / math.pi, abs=2 / 60)


def test_the_sun_is_highest_at_noon_and_morning_mirrors_afternoon() -> None:
    site = Site(latitude_deg=47, day_of_year=SUMMER)
    sine = site.sin_elevation(np.arange(25))
    assert int(np.argmax(sine)) == 12
    np.testing.assert_allclose(sine, sine[::-1], atol=3e-4)  # the declination moves


def test_hours_run_on_over_days_and_over_new_year() -> None:
    hours = np.array([3.0, 12.0, 20.0])
    december, january = Site(latitude_deg=47, day_of_year=363), Site(latitude_deg=47, day_of_year=2)
    np.testing.assert_allclose(december.sin_elevation(hours + 4 * 24), january.sin_elevation(hours), atol=1e-12)


def test_under_a_sun_overhead_a_clear_sky_gives_what_haurwitz_measured() -> None:
    noon = Site(latitude_deg=0, day_of_year=SPRING).clear_sky_w_m2(12.0)
    assert noon == pytest.approx(1098 * math.exp(-0.059), rel=1e-3)
    # 60 degrees from the equator the sun stands at 30 degrees: half the area, and twice the air.
    slant = Site(latitude_deg=60, day_of_year=SPRING).clear_sky_w_m2(12.0)
    assert slant == pytest.approx(1098 / 2 * math.exp(-0.059 * 2), rel=5e-3)


@given(st.floats(-90, 90), st.integers(1, 366), st.floats(0, 24))
def test_a_clear_sky_never_gives_more_than_space(latitude_deg: float, day: int, hour: float) -> None:
    site = Site(latitude_deg=latitude_deg, day_of_year=day)
    sine = float(site.sin_elevation(hour))
    solar_constant = 1361 * (1 - 0.034)  # at the far end of the Earth's orbit
    assert -1 <= sine <= 1
    assert 0 <= site.clear_sky_w_m2(hour) <= max(0.0, solar_constant * sine)


def test_illuminance_is_daylight_plus_the_lamp() -> None:
    np.testing.assert_allclose(illuminance_lux([0.0, 500.0], night_lux=10), [10, LUMENS_PER_WATT * 500 + 10])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"latitude_deg": 91}, r"latitude_deg must lie in \[-90, 90\], got 91$"),
        ({"latitude_deg": math.nan}, r"latitude_deg must lie in \[-90, 90\], got nan$"),
        ({"day_of_year": 0}, r"day_of_year must lie in \[1, 366\], got 0$"),
        ({"day_of_year": 367}, r"day_of_year must lie in \[1, 366\], got 367$"),
    ],
)
def test_a_site_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Site(**{"latitude_deg": 0, "day_of_year": 1, **options})


@pytest.mark.parametrize("variability", [0.3, 1.3, 4.0])
def test_clouds_keep_the_mean_they_are_given(variability: float) -> None:
    means = np.repeat([0.05, 0.3, 0.6, 0.95, 1.15], 60)
    clouds = Clouds(variability=variability, correlation_s=1e-3)  # steps are independent
    draws = clouds.index(means, generators(300), step_s=60).reshape(300, 5, 60)
    for k, mean in enumerate((0.05, 0.3, 0.6, 0.95, 1.15)):
        error = draws[:, k].std() / math.sqrt(300 * 60)
        assert draws[:, k].mean() == pytest.approx(mean, abs=4 * error)


def test_correlated_clouds_keep_the_mean_at_their_first_step_and_at_their_last() -> None:
    draws = Clouds().index(np.full(40, 0.7), generators(2000), step_s=300)
    for i in (0, 39):
        assert draws[:, i].mean() == pytest.approx(0.7, abs=4 * draws[:, i].std() / math.sqrt(2000))
        assert draws[:, i].std() == pytest.approx(draws.std(), rel=0.1)


def test_the_logit_of_the_share_is_an_ornstein_uhlenbeck_process() -> None:
    clouds = Clouds(variability=0.8, correlation_s=900, max_index=1.1)
    share = clouds.index(np.full(50, 0.4), generators(1), step_s=300)[0] / 1.1
    logit = np.log(share / (1 - share))
    z = generators(1)[0].standard_normal(50)
    keep, level = math.exp(-300 / 900), z[0]
    for i in range(1, 50):
        level = keep * level + math.sqrt(1 - keep**2) * z[i]
        assert logit[i] - logit[0] == pytest.approx(0.8 * (level - z[0]), abs=1e-9)


def test_half_a_clear_sky_flickers_and_fine_and_overcast_ones_hardly_do() -> None:
    means = np.repeat([0.05, 0.6, 1.15], 60)
    spread = Clouds().index(means, generators(100), step_s=60).reshape(100, 3, 60).std(axis=(0, 2))
    assert spread[1] > 3 * spread[0]
    assert spread[1] > 3 * spread[2]


def test_without_variability_the_share_is_its_mean() -> None:
    means = np.array([0.2, 0.9, 0.5])
    np.testing.assert_allclose(Clouds(variability=0).index(means, generators(2), step_s=60), [means] * 2, rtol=1e-14)


def test_no_share_leaves_its_bounds() -> None:
    draws = Clouds(variability=4, max_index=1.1).index(np.linspace(0.01, 1.09, 50), generators(20), step_s=600)
    assert (draws >= 0).all()
    assert (draws <= 1.1).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variability": -1}, r"variability must lie in \[0, 4\], got -1$"),
        ({"correlation_s": 0}, r"correlation_s must be a finite number above 0, got 0$"),
        ({"max_index": math.inf}, r"max_index must be a finite number above 0, got inf$"),
    ],
)
def test_clouds_that_cannot_be_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clouds(**options)


@pytest.mark.parametrize(
    ("clearness", "message"),
    [
        ([], r"clearness must be a sequence of at least one number, got shape \(0,\)$"),
        (0.5, r"clearness must be a sequence of at least one number, got shape \(\)$"),
        ([0.5, 0.0], r"clearness must lie between 0 and max_index 1\.2, got 0 at position 1$"),
        ([1.2, 1.3], r"clearness must lie between 0 and max_index 1\.2, got 1\.2 at position 0$"),
        ([0.5, 0.5, math.nan], r"clearness must lie between 0 and max_index 1\.2, got nan at position 2$"),
    ],
)
def test_a_clearness_that_cannot_be_is_refused_by_clouds_and_by_weather(clearness: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Clouds().index(clearness, generators(1), step_s=60)
    with pytest.raises(ValueError, match=message):
        Weather(site=Site(latitude_deg=0, day_of_year=1), clearness=clearness)


@pytest.fixture
def weather() -> Weather:
    return Weather(site=Site(latitude_deg=36, day_of_year=150), clearness=(0.9, 0.3), night_lux=2.0)


def test_weather_is_clear_sky_times_clouds(weather: Weather) -> None:
    trace = weather.trace(generators(3), step_s=600)
    assert trace.irradiance_w_m2.shape == trace.lux.shape == trace.air_c.shape == (3, 2 * 144)
    np.testing.assert_allclose(trace.hours, 1 / 12 + np.arange(2 * 144) / 6, rtol=1e-14)
    index = Clouds().index([0.9] * 144 + [0.3] * 144, generators(3), step_s=600)
    np.testing.assert_array_equal(trace.irradiance_w_m2, index * weather.site.clear_sky_w_m2(trace.hours))
    np.testing.assert_array_equal(trace.lux, LUMENS_PER_WATT * trace.irradiance_w_m2 + 2.0)
    assert (trace.lux[:, trace.hours < 3] == 2.0).all()


def test_on_average_a_day_brings_its_clearness_times_the_clear_day(weather: Weather) -> None:
    trace = weather.trace(generators(400), step_s=900)
    arrives = trace.irradiance_w_m2.reshape(400, 2, 96).sum(axis=2)
    clear = weather.site.clear_sky_w_m2(trace.hours).reshape(2, 96).sum(axis=1)
    share = arrives / clear
    error = share.std(axis=0) / math.sqrt(400)
    assert abs(share.mean(axis=0)[0] - 0.9) < 4 * error[0]
    assert abs(share.mean(axis=0)[1] - 0.3) < 4 * error[1]


def test_one_generator_gives_one_weather_whatever_its_neighbours(weather: Weather) -> None:
    together = weather.trace(generators(5), step_s=384)  # 225 steps a day: rows begin at odd places in memory
    for i, rng in enumerate(generators(5)):
        alone = weather.trace([rng], step_s=384)
        for name in ("irradiance_w_m2", "lux", "air_c"):
            assert getattr(together, name)[i].tobytes() == getattr(alone, name)[0].tobytes(), name
    assert len({row.tobytes() for row in together.irradiance_w_m2}) == 5


def test_a_longer_trace_begins_with_the_shorter_one(weather: Weather) -> None:
    first_day = Weather(site=weather.site, clearness=weather.clearness[:1], night_lux=2.0)
    short, long = (w.trace(generators(2), step_s=900) for w in (first_day, weather))
    np.testing.assert_array_equal(long.lux[:, :96], short.lux)


def test_air_is_warmest_at_15_and_coldest_at_3() -> None:
    site = Site(latitude_deg=36, day_of_year=150)
    trace = Weather(site=site, clearness=[0.5], mean_air_c=10, air_swing_c=8).trace(generators(1), step_s=60)
    air_c = trace.air_c[0]
    assert trace.hours[air_c.argmax()] == pytest.approx(15, abs=1 / 60)
    assert trace.hours[air_c.argmin()] == pytest.approx(3, abs=1 / 60)
    assert (air_c.max(), air_c.min(), air_c.mean()) == pytest.approx((10 + 8, 10 - 8, 10), abs=1e-4)


@pytest.mark.parametrize("step_s", [0, -60, 7, 86401, math.nan])
def test_steps_that_do_not_divide_a_day_are_refused(weather: Weather, step_s: float) -> None:
    with pytest.raises(ValueError, match=rf"step_s must divide a day of 86400 s, got {step_s:g}$"):
        weather.trace(generators(1), step_s=step_s)


def test_a_trace_needs_a_generator(weather: Weather) -> None:
    with pytest.raises(ValueError, match=r"rngs must hold at least one generator$"):
        weather.trace([], step_s=600)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"night_lux": -1}, r"night_lux must be finite and not negative, got -1$"),
        ({"air_swing_c": math.nan}, r"air_swing_c must be finite and not negative, got nan$"),
        ({"mean_air_c": math.inf}, r"mean_air_c must be finite, got inf$"),
    ],
)
def test_weather_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Weather(site=Site(latitude_deg=0, day_of_year=1), clearness=[0.5], **options)
