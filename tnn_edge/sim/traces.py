"""What devices meet whatever they do: sun, air, light and work, step by step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
