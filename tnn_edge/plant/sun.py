"""Where the sun stands, and how much light it gives under a clear sky."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["LUMENS_PER_WATT", "Site", "clear_sky_w_m2", "illuminance_lux", "sin_elevation", "solar_lead_h"]

Floats = npt.NDArray[np.float64]

LUMENS_PER_WATT = 110.0
"""Luminous efficacy of daylight, lm/W: 107 under clear skies, 115 under overcast ones, 109 on average; measured over a
year by Littlefair, Lighting Research & Technology 20 (4), 1988."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """A place and a season. Time is true solar time: the sun is highest at 12.

    Attributes:
        latitude_deg: degrees north, in [-90, 90].
        day_of_year: 1 is January 1; in [1, 366].
    """

    latitude_deg: float
    day_of_year: int

    def __post_init__(self) -> None:
        if not -90.0 <= self.latitude_deg <= 90.0:
            raise ValueError(f"latitude_deg must lie in [-90, 90], got {self.latitude_deg:g}")
        if not 1 <= self.day_of_year <= 366:
            raise ValueError(f"day_of_year must lie in [1, 366], got {self.day_of_year:g}")

    def sin_elevation(self, hours: npt.ArrayLike) -> Floats:
        """Sine of the sun's height over the horizon, negative at night; without refraction.

        Args:
            hours: since midnight of `day_of_year`, any shape; may run over many days and over New Year.
        """
        t = np.asarray(hours, np.float64)
        return sin_elevation(self.latitude_deg, self.day_of_year + (t - 12.0) / 24.0, t)

    def clear_sky_w_m2(self, hours: npt.ArrayLike) -> Floats:
        """Global horizontal irradiance under a clear sky, W/m2, after Haurwitz (1945), with pvlib's constants.

        Args:
            hours: as in `sin_elevation`.
        """
        return clear_sky_w_m2(self.sin_elevation(hours))


def sin_elevation(latitude_deg: float, day_of_year: npt.ArrayLike, solar_hour: npt.ArrayLike) -> Floats:
    """Sine of the sun's height over the horizon, negative at night; without refraction.

    Args:
        latitude_deg: degrees north.
        day_of_year: 1.0 is the noon of January 1; it runs on through the day and over New Year; any shape.
        solar_hour: true solar time in hours, 12 when the sun is highest, a shape that broadcasts with it.
    """
    declination = _declination(np.asarray(day_of_year, np.float64))
    hour_angle = np.radians(15.0 * (np.asarray(solar_hour, np.float64) - 12.0))
    latitude = np.radians(latitude_deg)
    upright = np.sin(latitude) * np.sin(declination)
    return np.asarray(upright + np.cos(latitude) * np.cos(declination) * np.cos(hour_angle))


def clear_sky_w_m2(sine: npt.ArrayLike) -> Floats:
    """Global horizontal irradiance under a clear sky, W/m2, after Haurwitz (1945), with pvlib's constants.

    Args:
        sine: of the sun's height, any shape.
    """
    high = np.maximum(np.asarray(sine, np.float64), 1e-3)  # lower, the exponential is 0 anyway
    return np.where(np.asarray(sine) > 0.0, 1098.0 * high * np.exp(-0.059 / high), 0.0)


def solar_lead_h(day_of_year: npt.ArrayLike, *, longitude_deg: float, utc_offset_h: float) -> Floats:
    """Hours by which true solar time is ahead of the clock, after Spencer (1971); of the shape of the day.

    Args:
        day_of_year: 1 is January 1.
        longitude_deg: degrees east.
        utc_offset_h: of the clock, without daylight saving time where it shows none.
    """
    b = 2.0 * np.pi * (np.asarray(day_of_year, np.float64) - 1.0) / 365.0
    equation_of_time_min = 229.18 * (
        0.000075 + 0.001868 * np.cos(b) - 0.032077 * np.sin(b) - 0.014615 * np.cos(2.0 * b) - 0.04089 * np.sin(2.0 * b)
    )
    return np.asarray(longitude_deg / 15.0 - utc_offset_h + equation_of_time_min / 60.0)


def illuminance_lux(irradiance_w_m2: npt.ArrayLike, night_lux: npt.ArrayLike = 0.0) -> Floats:
    """Illuminance of a scene under the sky and a lamp that always burns; twilight is left out.

    Args:
        irradiance_w_m2: global horizontal irradiance, any shape.
        night_lux: what is left without sun: about 0.1 under a full moon, 10 under a street light.
    """
    return np.asarray(LUMENS_PER_WATT * np.asarray(irradiance_w_m2, np.float64) + np.asarray(night_lux, np.float64))


def _declination(day: Floats) -> Floats:
    """Declination of the sun in radians at the noon of a day of the year, after Spencer (1971).

    Within half a degree in every year: the calendar drifts by up to a day against the sun. Cooper's one sine is out by
    a degree in autumn.
    """
    b = 2.0 * np.pi * (day - 1.0) / 365.0
    return np.asarray(
        0.006918
        - 0.399912 * np.cos(b)
        + 0.070257 * np.sin(b)
        - 0.006758 * np.cos(2.0 * b)
        + 0.000907 * np.sin(2.0 * b)
        - 0.002697 * np.cos(3.0 * b)
        + 0.00148 * np.sin(3.0 * b)
    )
