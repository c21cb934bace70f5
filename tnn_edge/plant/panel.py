"""A photovoltaic panel: irradiance and air temperature to electric power."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Panel"]


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A panel behind a charge controller: power falls in a line with cell temperature, as in PVWatts.

    Attributes:
        rated_w: power at 1000 W/m2 and cells of 25 degrees C (standard test conditions, IEC 61215).
        derating: what is left after dirt, shade, wiring, mismatch and the charge controller, in (0, 1]. PVWatts
            (NREL/TP-6A20-62641) takes 14 % of losses, and another 4 % in the converter, where 3 of the 14 are outages.
        temperature_coefficient: relative change of power per K of the cells, in [-0.02, 0]; crystalline silicon -0.004.
        noct_c: cell temperature at 800 W/m2 and 20 degrees C of air (IEC 61215), which says how much the sun heats it.
    """

    rated_w: float
    derating: float = 0.85
    temperature_coefficient: float = -0.004
    noct_c: float = 45.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.rated_w < math.inf:
            raise ValueError(f"rated_w must be finite and not negative, got {self.rated_w:g}")
        if not 0.0 < self.derating <= 1.0:
            raise ValueError(f"derating must lie in (0, 1], got {self.derating:g}")
        if not -0.02 <= (coefficient := self.temperature_coefficient) <= 0.0:
            raise ValueError(f"temperature_coefficient must lie in [-0.02, 0] per K (no percent), got {coefficient:g}")
        if not 20.0 <= self.noct_c <= 100.0:
            raise ValueError(f"noct_c must lie in [20, 100], got {self.noct_c:g}")

    def power_w(self, irradiance_w_m2: npt.ArrayLike, air_c: npt.ArrayLike = 25.0) -> npt.NDArray[np.float64]:
        """Electric power, never negative.

        Args:
            irradiance_w_m2: on the panel's plane (global horizontal for a panel that lies flat), any shape. Instruments
                read a little below 0 at night: that is no power.
            air_c: air temperature, a shape that broadcasts with it.
        """
        irradiance = np.maximum(np.asarray(irradiance_w_m2, np.float64), 0.0)
        cell_c = np.asarray(air_c, np.float64) + (self.noct_c - 20.0) * irradiance / 800.0
        heat = np.maximum(1.0 + self.temperature_coefficient * (cell_c - 25.0), 0.0)
        return np.asarray(self.rated_w * self.derating * irradiance / 1000.0 * heat)
