"""How much charge a device must keep to live through what its site may bring: a table by season and hour."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from tnn_edge.errors import ConfigError
from tnn_edge.whole_file import write_whole

__all__ = ["N_SEASONS", "Reserve", "read_reserve", "season_of", "write_reserve"]

Floats = npt.NDArray[np.float64]

N_SEASONS = 36
"""Parts of a year, of ten days."""

_TINY_H = 1e-9
"""By rounding, an hour that begins may lie so much before its beginning."""

_Positive = Annotated[float, Field(gt=0.0)]
_NotNegative = Annotated[float, Field(ge=0.0)]
_Efficiency = Annotated[float, Field(gt=0.0, le=1.0)]
_Share = Annotated[float, Field(ge=0.0, le=1.0)]

_WAY_OUT = "tnn-edge reserve makes one"


class Reserve(BaseModel):
    """What `ReserveShield` keeps, and the device that it is for.

    Attributes:
        site: whose weather was looked at.
        battery_wh: usable energy.
        discharge_efficiency: energy out of the battery over the charge that it costs.
        leak_w: power that leaks away.
        converter_efficiency: power at the board's input over what it costs the battery.
        converter_w: power of the converter itself.
        idle_w: power of the board with the network idle.
        u: operating points, rising.
        power_w: theirs on top of `idle_w` at full workload.
        u_floor: throttle at which the reserve lasts.
        period_s: longest time between two decisions.
        is_sufficient: whether the reserve fits into the battery everywhere; where it does not, nothing is promised.
        reserve_wh: charge to keep, [season][hour].
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    schema_version: Literal[1] = 1
    site: str = Field(min_length=1)
    battery_wh: _Positive
    discharge_efficiency: _Efficiency
    leak_w: _NotNegative
    converter_efficiency: _Efficiency
    converter_w: _NotNegative
    idle_w: _NotNegative
    u: list[_Share] = Field(min_length=1)
    power_w: list[_NotNegative]
    u_floor: _Share
    period_s: _Positive
    is_sufficient: bool
    reserve_wh: list[list[_NotNegative]]

    @model_validator(mode="after")
    def _check_shapes(self) -> Reserve:
        if len(self.u) != len(self.power_w) or self.u != sorted(set(self.u)) or self.power_w != sorted(self.power_w):
            raise ValueError("u and power_w must rise, and be as many as each other")
        if len(self.reserve_wh) != N_SEASONS or any(len(row) != 24 for row in self.reserve_wh):
            raise ValueError(f"reserve_wh must have {N_SEASONS} seasons of 24 hours")
        if max(max(row) for row in self.reserve_wh) > self.battery_wh:
            raise ValueError("reserve_wh must not exceed battery_wh")
        return self

    def at(self, day_of_year: Floats, hour: Floats) -> Floats:
        """Charge to keep in Wh, shape [n]; NaN where either is unknown.

        Args:
            day_of_year: 1 is January 1, shape [n].
            hour: shape [n]; from 24 on it is the next day's.
        """
        is_known = ~(np.isnan(day_of_year) | np.isnan(hour))
        since_midnight = np.where(is_known, hour, 0.0) + _TINY_H
        day = np.where(is_known, day_of_year, 1.0) + np.floor(since_midnight / 24.0)
        table = np.array(self.reserve_wh)
        kept = table[season_of(day), (since_midnight % 24.0).astype(np.intp)]
        return np.where(is_known, kept, np.nan)

    def needed_wh(self) -> Floats:
        """Charge that a period takes at each operating point, at full workload and without sun, shape [n_points]."""
        hours = self.period_s / 3600.0
        board_w = self.idle_w + np.array(self.power_w)
        bus_w = board_w / self.converter_efficiency + self.converter_w
        return np.asarray(hours * (bus_w / self.discharge_efficiency + self.leak_w))


def season_of(day_of_year: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """The part of the year of a day, 0 to 35, of the same shape; the year begins anew after day 366."""
    day = (np.asarray(day_of_year, np.float64) - 1.0) % 366.0
    return np.minimum(day * (N_SEASONS / 366.0), N_SEASONS - 1).astype(np.intp)


def write_reserve(path: Path, reserve: Reserve) -> None:
    """Write a file that `read_reserve` reads.

    Raises:
        TnnEdgeError: it could not be written.
    """
    fields = reserve.model_dump(mode="json")
    text = json.dumps({"sha256": _digest(fields), "reserve": fields}, indent=1) + "\n"
    write_whole(path, text.encode(), "reserve file")


def read_reserve(path: Path) -> Reserve:
    """Read a reserve.

    Raises:
        ConfigError: it is missing, is no reserve file, or is damaged.
    """
    try:
        document = json.loads(path.read_bytes())
        fields = document["reserve"]
        digest = document["sha256"]
    except OSError as err:
        raise ConfigError(f"cannot read {path}: {err.strerror}; {_WAY_OUT}") from err
    except (ValueError, KeyError, TypeError, RecursionError) as err:
        raise ConfigError(f"{path} is no reserve file; {_WAY_OUT}") from err
    if digest != _digest(fields):
        raise ConfigError(f"{path} is damaged, or was changed by hand; {_WAY_OUT}")
    try:
        return Reserve.model_validate(fields)
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise ConfigError(f"{path}: {place}: {first['msg']}; {_WAY_OUT}") from err


def _digest(fields: Any) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()
