"""A typical year measured at a site, its days split into those to learn from and those to be judged by."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib import resources

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.plant.sun import clear_sky_w_m2, sin_elevation, solar_lead_h

__all__ = ["SITES", "SPLITS", "Climate", "pool_of_week", "read_climate"]

Floats = npt.NDArray[np.float64]

SITES = ("greensboro", "miami", "sand_point")
"""The sites whose year ships with the package."""

SPLITS = ("train", "validation", "test")
"""Pools of days, in the order of their codes."""

N_DAYS = 365

_DIGESTS = {
    "greensboro": "44f776bcecf12eccb91a4c0c30eccde2310369ac426cc7f8e6a231c0f63d47b2",
    "miami": "56aed52244ff2917ea36045d844cb29da926c92cf260630a3b8a7f7b0a37ee13",
    "sand_point": "e6bf1d49c3b14bbecbadd2664dba0c142774b4ff96ea1d935fe479dcc788be98",
}
"""SHA-256 of each shipped file."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Climate:
    """A year of hours. Those that ship are typical years of NREL (TMY2 and TMY3, public), as pvlib carries them.

    Attributes:
        site: name of the place.
        latitude_deg: degrees north.
        longitude_deg: degrees east.
        utc_offset_h: of the local standard time in which hours are counted.
        ghi_w_m2: mean global horizontal irradiance of each hour, shape [365, 24].
        air_c: air temperature at the end of each hour, shape [365, 24].
        is_trainable: whether there are days to learn from; if not, all are for tests.
    """

    site: str
    latitude_deg: float
    longitude_deg: float
    utc_offset_h: float
    ghi_w_m2: Floats
    air_c: Floats
    is_trainable: bool

    def days_of(self, split: str) -> npt.NDArray[np.intp]:
        """The days of a pool, 0 is January 1.

        Whole weeks belong to one pool, three fifths of them to `train`, one each to `validation` and `test`, in turn.

        Raises:
            InputError: there is no such pool, or the site has no days to learn from.
        """
        if split not in SPLITS:
            raise InputError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        if not self.is_trainable:
            if split != "test":
                raise InputError(f"{self.site} is kept for tests: nothing is trained or chosen by it, got {split!r}")
            return np.arange(N_DAYS)
        weeks = np.minimum(np.arange(N_DAYS) // 7, 51)
        return np.flatnonzero([pool_of_week(int(week)) == split for week in weeks])

    def solar_hour(self, day_of_year: npt.ArrayLike, hour: npt.ArrayLike) -> Floats:
        """True solar time of a moment on the local clock, any shapes that broadcast."""
        lead_h = solar_lead_h(day_of_year, longitude_deg=self.longitude_deg, utc_offset_h=self.utc_offset_h)
        return np.asarray(np.asarray(hour, np.float64) + lead_h)

    def clear_sky_w_m2(self, day_of_year: npt.ArrayLike, hour: npt.ArrayLike) -> Floats:
        """Global horizontal irradiance under a clear sky at a moment on the local clock.

        Args:
            day_of_year: 1 is January 1, any shape.
            hour: in [0, 24), a shape that broadcasts with it.
        """
        solar = self.solar_hour(day_of_year, hour)
        middle = np.asarray(day_of_year, np.float64) + (solar - 12.0) / 24.0
        return clear_sky_w_m2(sin_elevation(self.latitude_deg, middle, solar))

    def to_bytes(self) -> bytes:
        """The file that `read_climate` reads; the same year gives the same bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(
            buffer,
            site=np.array(self.site),
            place=np.array([self.latitude_deg, self.longitude_deg, self.utc_offset_h]),
            ghi_w_m2=np.rint(self.ghi_w_m2).astype(np.uint16),
            air_tenth_c=np.rint(10.0 * self.air_c).astype(np.int16),
            is_trainable=np.array(self.is_trainable),
        )
        return buffer.getvalue()


def pool_of_week(week: int) -> str:
    """The pool of a week of the year, 0 to 51. No day is further than 21 days from one of each pool."""
    if week >= 50:
        return SPLITS[week - 49]
    return ("train", "train", "validation", "train", "test")[week % 5]


def read_climate(site: str) -> Climate:
    """A shipped year.

    Raises:
        InputError: there is no such site, or its file is damaged.
    """
    if site not in SITES:
        raise InputError(f"no site is called {site!r}; there are {', '.join(SITES)}, or a CSV of your own measurements")
    data = (resources.files("tnn_edge.sim.sites") / f"{site}.npz").read_bytes()
    if hashlib.sha256(data).hexdigest() != _DIGESTS[site]:
        raise InputError(f"the shipped year of {site} is damaged; install tnn-edge anew")
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        latitude_deg, longitude_deg, utc_offset_h = arrays["place"].tolist()
        return Climate(
            site=str(arrays["site"]),
            latitude_deg=latitude_deg,
            longitude_deg=longitude_deg,
            utc_offset_h=utc_offset_h,
            ghi_w_m2=arrays["ghi_w_m2"].astype(np.float64),
            air_c=arrays["air_tenth_c"] / 10.0,
            is_trainable=bool(arrays["is_trainable"]),
        )
