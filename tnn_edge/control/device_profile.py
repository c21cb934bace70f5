"""What each setting of the dial costs and is worth: power, and accuracy and confidence by light."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from tnn_edge.bundle import LightTable
from tnn_edge.errors import InputError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.whole_file import write_whole

__all__ = [
    "REFERENCE",
    "DeviceProfile",
    "profile_of_network",
    "read_profile",
    "reference_profile",
    "write_profile",
]

Floats = npt.NDArray[np.float64]

_TINY_U = 1e-9
"""So much below an operating point u may lie and still mean it: 0.3 is not the same number by every sum."""

_MOST_POINTS = 256

REFERENCE = "reference"
"""Name of the profile that scores are given for, so that they compare across networks."""


@dataclass(frozen=True, eq=False, kw_only=True)
class DeviceProfile:
    """The operating points of a network on a board.

    A throttle between two points is served by the lower one. Between two levels of light a value is linear in
    log10(lux); beyond the first and the last it stays what it is there.

    Attributes:
        u: of the operating points, rising from 0 to at most 1, shape [n_points].
        power_w: power on top of `idle_w` with the network at full workload, not falling, shape [n_points].
        idle_w: power at the board's input with the camera on and the network idle.
        lux: illuminance of the levels, rising, above 0, at least two, shape [n_levels].
        accuracy: share of right answers, shape [n_points, n_levels].
        confidence: mean of the largest softmax, shape [n_points, n_levels].
        source: where the numbers come from.
        is_modelled: whether any of them was not measured.
    """

    u: Floats
    power_w: Floats
    idle_w: float
    lux: Floats
    accuracy: Floats
    confidence: Floats
    source: str
    is_modelled: bool

    def __post_init__(self) -> None:
        for name in ("u", "power_w", "lux", "accuracy", "confidence"):
            values = np.array(getattr(self, name), np.float64)  # a copy: nobody changes it behind our back
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.u.ndim != 1 or not self.u.size or self.u[0] != 0.0 or self.u[-1] > 1.0 or (np.diff(self.u) <= 0).any():
            raise InputError(f"u must rise from 0 to at most 1, got {self.u.tolist()}")
        if self.u.size > _MOST_POINTS:
            raise InputError(f"u has {self.u.size} operating points; {_MOST_POINTS} are the most")
        if self.power_w.shape != self.u.shape:
            raise InputError(f"power_w has {self.power_w.size} numbers for {self.u.size} operating points")
        if not (np.isfinite(self.power_w).all() and self.power_w[0] >= 0.0 and (np.diff(self.power_w) >= 0.0).all()):
            raise InputError(f"power_w must be finite, at least 0 and not fall, got {self.power_w.tolist()}")
        if self.power_w[-1] <= 0.0:
            raise InputError("power_w is 0 at the last operating point: no energy is known of this network")
        if not 0.0 <= self.idle_w < math.inf:
            raise InputError(f"idle_w must be finite and not negative, got {self.idle_w:g}")
        if self.lux.ndim != 1 or self.lux.size < 2 or not (self.lux[0] > 0.0 and (np.diff(self.lux) > 0.0).all()):
            raise InputError(f"lux must have two levels or more, rise and be above 0, got {self.lux.tolist()}")
        for name in ("accuracy", "confidence"):
            table = getattr(self, name)
            if table.shape != (self.u.size, self.lux.size):
                raise InputError(f"{name} must have shape [{self.u.size}, {self.lux.size}], got {list(table.shape)}")
            if not ((table >= 0.0) & (table <= 1.0)).all():
                raise InputError(f"{name} must lie in [0, 1]")

    def point_at(self, u: npt.ArrayLike) -> npt.NDArray[np.intp]:
        """Index of the operating point that serves a throttle, of the same shape.

        Args:
            u: in [0, 1], any shape.
        """
        return np.asarray(np.searchsorted(self.u, np.asarray(u, np.float64) + _TINY_U, side="right") - 1, np.intp)

    def level_at(self, lux: npt.ArrayLike) -> Floats:
        """Position of an illuminance on the axis of levels, in [0, n_levels - 1], of the same shape; NaN where it is.

        Args:
            lux: >= 0, any shape.
        """
        given = np.asarray(lux, np.float64)
        position = np.interp(np.log10(np.maximum(given, 1e-300)), np.log10(self.lux), np.arange(self.lux.size))
        return np.where(np.isnan(given), np.nan, position)

    def accuracy_at(self, lux: npt.ArrayLike) -> Floats:
        """Accuracy of every operating point, shape [n, n_points]; NaN where the light is.

        Args:
            lux: shape [n].
        """
        return self._between(self.accuracy, lux)

    def confidence_at(self, lux: npt.ArrayLike) -> Floats:
        """Confidence, as `accuracy_at`."""
        return self._between(self.confidence, lux)

    def _between(self, table: Floats, lux: npt.ArrayLike) -> Floats:
        level = self.level_at(lux)
        is_known = ~np.isnan(level)
        low = np.minimum(np.where(is_known, level, 0.0).astype(np.intp), self.lux.size - 2)
        share = (level - low)[:, None]
        by_level = table.T
        return np.asarray(by_level[low] + share * (by_level[low + 1] - by_level[low]))


def reference_profile() -> DeviceProfile:
    """A modelled board and network by which policies are compared, whatever network is at hand.

    2.2 W idle and 7.8 u W on top, 17 operating points; accuracy q (0.55 + 0.40 (1 - exp(-3u)) / (1 - exp(-3))) with
    image quality q = lux / (lux + 5), so that a scene under a street light of 10 lux is worth two thirds of one in
    daylight; confidence equal to accuracy, as of a calibrated network.
    """
    u = np.linspace(0.0, 1.0, 17)
    lux = np.geomspace(0.1, 100_000.0, 19)
    curve = 0.55 + 0.40 * (1.0 - np.exp(-3.0 * u)) / (1.0 - np.exp(-3.0))
    accuracy = curve[:, None] * (lux / (lux + 5.0))
    return DeviceProfile(
        u=u,
        power_w=7.8 * u,
        idle_w=2.2,
        lux=lux,
        accuracy=accuracy,
        confidence=accuracy,
        source="reference profile",
        is_modelled=True,
    )


def profile_of_network(
    *,
    u: Sequence[float],
    light: LightTable | None,
    energy_mj: Sequence[float | None],
    frames_per_s: float,
    idle_w: float,
    source: str,
    is_modelled: bool,
) -> DeviceProfile:
    """The profile of a bundle's operating points from what was measured of them.

    Args:
        u: of the operating points.
        light: the bundle's table of accuracy and confidence by light.
        energy_mj: of one inference above idle at each point; None where nobody knows it.
        frames_per_s: inferences a second at full workload.
        idle_w: power with the network idle.
        source: which bundle and which machine.
        is_modelled: whether the energy is.

    Raises:
        InputError: the energy of a point is unknown, or the bundle has no table by light.
    """
    if lacking := [f"{point:g}" for point, energy in zip(u, energy_mj, strict=True) if energy is None]:
        raise InputError(
            f"{source}: no energy is known at u = {', '.join(lacking)}; measure it with tnn-edge profile on a machine "
            "with a power meter, or give power_w of every operating point in a profile file"
        )
    if light is None:
        raise InputError(f"{source}: the bundle has no table of accuracy by light; export it with one")
    power_w = np.maximum.accumulate([frames_per_s * float(energy or 0.0) / 1000.0 for energy in energy_mj])
    return DeviceProfile(
        u=np.array(u),
        power_w=power_w,
        idle_w=idle_w,
        lux=np.maximum(light.lux, 1e-6),
        accuracy=np.array(light.accuracy),
        confidence=np.array(light.confidence),
        source=source,
        is_modelled=is_modelled,
    )


class _ProfileTable(BaseModel):
    """A profile as a user writes it.

    Attributes:
        source: where the numbers come from.
        is_modelled: true unless all of them were measured.
        idle_w: power in W with the camera on and the network idle.
        u: the operating points, rising from 0.
        power_w: power in W on top of idle_w at each of them, at full workload.
        lux: levels of light, rising.
        accuracy: for each operating point a list of the share of right answers at each level.
        confidence: likewise the mean confidence.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str = Field(min_length=1)
    is_modelled: bool
    idle_w: float
    u: list[float]
    power_w: list[float]
    lux: list[float]
    accuracy: list[list[float]]
    confidence: list[list[float]]


def read_profile(path: Path) -> DeviceProfile:
    """Read a profile file.

    Raises:
        ConfigError: it is missing, is no TOML or does not hold; with line, key and a way out.
    """
    file = TomlFile.read(path)
    table = file.validate(_ProfileTable)
    for name in ("accuracy", "confidence"):
        rows = getattr(table, name)
        if len({len(row) for row in rows}) > 1:
            file.fail([Fault((name,), "its lists differ in length; each needs a number for every level of lux")])
    try:
        return DeviceProfile(**table.model_dump())
    except InputError as err:
        file.fail([Fault((), str(err))])
        raise


def write_profile(path: Path, profile: DeviceProfile) -> None:
    """Write a file that `read_profile` reads, its numbers but u to six digits.

    Raises:
        TnnEdgeError: it could not be written.
    """
    lines = [
        f"source = {json.dumps(profile.source)}",
        f"is_modelled = {json.dumps(profile.is_modelled)}",
        f"idle_w = {_number(profile.idle_w)}  # W",
        f"u = {profile.u.tolist()}",
        f"power_w = {_numbers(profile.power_w)}  # W on top of idle_w, at full workload",
        f"lux = {_numbers(profile.lux)}",
    ]
    for name in ("accuracy", "confidence"):
        rows = getattr(profile, name)
        lines += [f"{name} = [", *(f"    {_numbers(row)}," for row in rows), "]"]
    write_whole(path, ("\n".join(lines) + "\n").encode(), "profile file")


def _numbers(values: Floats) -> str:
    return f"[{', '.join(map(_number, values))}]"


def _number(value: float) -> str:
    return repr(float(f"{value:.6g}"))
