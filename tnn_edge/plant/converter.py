"""The converter between the battery's voltage and the board's."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Converter"]


@dataclass(frozen=True, kw_only=True)
class Converter:
    """A DC-DC converter: a loss in proportion, and a power of its own while it is on.

    Attributes:
        efficiency: power at the board's input over what it costs, in (0, 1]. 0.9 is assumed, for a buck converter; a
            carrier board may be worse: 29.0 W at the module of an Orin NX were 37.0 W at the input of its carrier, 0.78
            (ARK Electronics, ark_jetson_kernel, docs/power.md).
        standby_w: power on top, whatever the board draws.
    """

    efficiency: float = 0.9
    standby_w: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.efficiency <= 1.0:
            raise ValueError(f"efficiency must lie in (0, 1], got {self.efficiency:g}")
        if not 0.0 <= self.standby_w < math.inf:
            raise ValueError(f"standby_w must be finite and not negative, got {self.standby_w:g}")

    def input_w(self, load_w: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Power that a board costs while it is on, of the shape of the power that it draws."""
        return np.asarray(np.asarray(load_w, np.float64) / self.efficiency + self.standby_w)
