"""Somebody's own measurements of sunlight: a CSV file, read strictly, a fault told with its line."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError

__all__ = ["Samples", "read_samples"]

Floats = npt.NDArray[np.float64]

_TIMES = ("time_utc", "time")
_SUN = "ghi"
_AIR = "temp_air"

_NIGHT_OFFSET_W_M2 = -10.0
"""An instrument that cools against the sky reads so little at night; less is a fault."""

_BRIGHTEST_W_M2 = 1600.0
"""Edges of clouds add to the sun, but not beyond this."""

USUAL_AIR_C = 20.0


@dataclass(frozen=True, eq=False, kw_only=True)
class Samples:
    """What a file holds, in the order of time.

    Attributes:
        seconds: since the first midnight of local standard time, shape [n].
        ghi_w_m2: global horizontal irradiance, NaN where it is missing, shape [n].
        air_c: air temperature, NaN where it is missing, shape [n].
        first_day: that midnight.
        n_negative: readings below 0 that were taken for 0.
        has_air: whether the file has a column of air temperature.
    """

    seconds: Floats
    ghi_w_m2: Floats
    air_c: Floats
    first_day: datetime
    n_negative: int
    has_air: bool


def read_samples(path: Path, *, utc_offset_h: float) -> Samples:
    """Read a file of measurements.

    Its columns are `time_utc` or `time`, ISO 8601 with an offset to UTC; `ghi` in W/m2; and, if there is one,
    `temp_air` in degrees C. Others are passed over, and so is a value that is left empty.

    Args:
        path: of the file.
        utc_offset_h: of local standard time.

    Raises:
        InputError: the file cannot be read, lacks a column, or has a value that cannot be; with its line.
    """
    moments: list[datetime] = []
    sun: list[float] = []
    air: list[float] = []
    zone = timezone(timedelta(hours=utc_offset_h))
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = csv.reader(file)
            header = next(rows, None)
            if header is None:
                raise InputError(f"{path} is empty; it needs the columns time and {_SUN}")
            columns = _columns(path, header)
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if len(row) != len(header):
                    raise InputError(f"{where}: {len(row)} values for {len(header)} columns")
                moment = _moment(where, row[columns[0]])
                if moments and moment <= moments[-1]:
                    told = "is there twice" if moment == moments[-1] else "is before the one above it"
                    raise InputError(f"{where}: the time {row[columns[0]]} {told}; sort the file and keep one of each")
                moments.append(moment)
                sun.append(_number(where, _SUN, row[columns[1]], _NIGHT_OFFSET_W_M2, _BRIGHTEST_W_M2))
                air.append(math.nan if columns[2] is None else _number(where, _AIR, row[columns[2]], -90.0, 70.0))
    except OSError as err:
        raise InputError(f"cannot read {path}: {err.strerror}") from err
    except (UnicodeDecodeError, csv.Error) as err:
        raise InputError(f"{path} is no CSV file of UTF-8 text: {err}") from err
    if len(moments) < 2:
        raise InputError(f"{path} holds {len(moments)} rows of values; a day is the least")
    try:
        first = moments[0].astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
    except OverflowError as err:
        raise InputError(f"{path}: the time {moments[0].isoformat()} lies outside the calendar") from err
    ghi = np.array(sun)
    return Samples(
        seconds=np.array([(moment - first).total_seconds() for moment in moments]),
        ghi_w_m2=np.where(ghi < 0.0, 0.0, ghi),
        air_c=np.array(air),
        first_day=first,
        n_negative=int((ghi < 0.0).sum()),
        has_air=columns[2] is not None,
    )


def _columns(path: Path, header: Sequence[str]) -> tuple[int, int, int | None]:
    names = [name.strip() for name in header]
    time = next((name for name in _TIMES if name in names), None)
    if time is None or _SUN not in names:
        lacking = " or ".join(_TIMES) if time is None else _SUN
        raise InputError(f"{path}:1: no column is called {lacking}; there are {', '.join(names)}")
    return names.index(time), names.index(_SUN), names.index(_AIR) if _AIR in names else None


def _moment(where: str, text: str) -> datetime:
    try:
        # Python 3.10 knows no Z.
        moment = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError as err:
        raise InputError(f"{where}: {text!r} is no time; write 2026-06-01T12:00:00+02:00") from err
    if moment.tzinfo is None:
        raise InputError(f"{where}: the time {text} has no offset to UTC; write {text.strip()}+00:00 if it is UTC")
    return moment


def _number(where: str, name: str, text: str, low: float, high: float) -> float:
    if not text.strip() or text.strip().lower() == "nan":
        return math.nan
    try:
        value = float(text)
    except ValueError as err:
        raise InputError(f"{where}: {name} {text!r} is no number; leave it empty where it is missing") from err
    if not low <= value <= high:
        way_out = f"leave it empty where it is missing; {name} lies in [{low:g}, {high:g}]"
        raise InputError(f"{where}: {name} is {value:g}; {way_out}")
    return value
