"""What devices meet whatever they do: sun, air, light and work, step by step."""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.whole_file import write_whole

__all__ = ["Traces"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Traces:
    """What n devices at one site meet, at steps of equal length.

    Attributes:
        site: name of the place.
        step_s: length of a step in seconds.
        hour: local standard time in the middle of each step, in [0, 24), shape [n_steps].
        day_of_year: of each step, 1 is January 1, shape [n_steps].
        irradiance_w_m2: global horizontal irradiance, shape [n, n_steps].
        air_c: air temperature, shape [n, n_steps].
        lux: illuminance as a light meter reads it, shape [n, n_steps].
        scene_lux: illuminance that the pictures are worth; fog, rain, dirt and backlight, which no light meter sees,
            make it less; shape [n, n_steps].
        events_per_h: what there is to see, shape [n, n_steps].
        confidence_z: standard normal numbers by which the network's confidence varies, shape [n, n_steps].
    """

    site: str
    step_s: float
    hour: Floats
    day_of_year: Floats
    irradiance_w_m2: Floats
    air_c: Floats
    lux: Floats
    scene_lux: Floats
    events_per_h: Floats
    confidence_z: Floats

    def __len__(self) -> int:
        return len(self.irradiance_w_m2)

    @property
    def n_steps(self) -> int:
        """Steps of each trace."""
        return len(self.hour)

    @property
    def start_hour(self) -> Floats:
        """Local standard time at the beginning of each step, when a policy decides, in [0, 24), shape [n_steps]."""
        return np.maximum(self.hour - self.step_s / 7200.0, 0.0)

    def first_days(self, n_days: int) -> Traces:
        """The same, cut off after so many days."""
        n_steps = round(n_days * 86_400.0 / self.step_s)
        kept: dict[str, Any] = {
            name: value[..., :n_steps] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **kept)

    def save(self, path: Path) -> str:
        """Write a file that `load` reads, its numbers in single precision.

        Returns:
            SHA-256 of what it holds.

        Raises:
            TnnEdgeError: it could not be written.
        """
        arrays = {name: np.asarray(value) for name, value in vars(self).items()}
        arrays |= {name: value.astype(np.float32) for name, value in arrays.items() if value.ndim == 2}
        digest = _digest(arrays)
        buffer = io.BytesIO()
        contents: dict[str, Any] = {"sha256": np.array(digest), **arrays}
        np.savez_compressed(buffer, **contents)
        write_whole(path, buffer.getvalue(), "trace file")
        return digest

    @classmethod
    def load(cls, path: Path) -> Traces:
        """Read a file of `save`.

        Raises:
            InputError: it is missing, is no trace file, or is damaged.
        """
        way_out = "python -m train.traces bake makes one"
        try:
            file = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise ValueError("a single array")
            with file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError as err:
            raise InputError(f"there is no trace file {path}; {way_out}") from err
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, KeyError) as err:
            raise InputError(f"{path} is no trace file, or damaged ({err}); {way_out}") from err
        digest = str(arrays.pop("sha256", ""))
        names = {field.name for field in fields(cls)}
        if arrays.keys() != names or digest != _digest(arrays):
            raise InputError(f"{path} is damaged, or was made by another version; {way_out}")
        numbers = {name: arrays[name].astype(np.float64) for name in names - {"site", "step_s"}}
        return cls(site=str(arrays["site"]), step_s=float(arrays["step_s"]), **numbers)


def _digest(arrays: dict[str, npt.NDArray[np.generic]]) -> str:
    total = hashlib.sha256()
    for name in sorted(arrays):
        total.update(f"{name} {arrays[name].dtype.str} {arrays[name].shape}\n".encode())
        total.update(np.ascontiguousarray(arrays[name]).tobytes())
    return total.hexdigest()
