"""One thermal node: the board's temperature follows its power with one time constant, and too hot it slows down."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["ThermalNode", "ThermalThrottle"]


@dataclass(frozen=True, kw_only=True)
class ThermalNode:
    """A thermal resistance to the air and a heat capacity.

    Attributes:
        resistance_k_per_w: rise above the air per watt in steady state. 1.4 K/W: 34 K more for 24.4 W more, a 45-minute
            soak of an Orin NX under its stock fan (ARK Electronics, ark_jetson_kernel, docs/power.md); a sealed box
            without a fan has several times as much.
        time_constant_s: resistance times heat capacity; 5 minutes is assumed, for a module with its heat sink.
    """

    resistance_k_per_w: float = 1.4
    time_constant_s: float = 300.0

    def __post_init__(self) -> None:
        for name in ("resistance_k_per_w", "time_constant_s"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")

    def step(
        self, temperature_c: npt.ArrayLike, *, power_w: npt.ArrayLike, air_c: npt.ArrayLike, seconds: float
    ) -> npt.NDArray[np.float64]:
        """Temperature after a while at constant power and air: the exact solution, so two half steps are one step.

        Args:
            temperature_c: before the step; it, `power_w` and `air_c` broadcast to [n].
            power_w: power turned into heat.
            air_c: temperature of the air.
            seconds: length of the step, >= 0.
        """
        if not 0.0 <= seconds < math.inf:
            raise ValueError(f"seconds must be finite and not negative, got {seconds:g}")
        steady = np.asarray(air_c, np.float64) + self.resistance_k_per_w * np.asarray(power_w, np.float64)
        left = math.exp(-seconds / self.time_constant_s)
        return np.asarray(steady + (np.asarray(temperature_c, np.float64) - steady) * left)


@dataclass(frozen=True, kw_only=True)
class ThermalThrottle:
    """What a board's firmware does when it is hot: it computes less, whatever it is asked for.

    Attributes:
        above_c: temperature at and above which it begins.
        until_c: temperature below which it ends.
        u: throttle that a hot board computes at most, in [0, 1].
    """

    above_c: float = 95.0
    until_c: float = 85.0
    u: float = 0.25

    def __post_init__(self) -> None:
        if not -math.inf < self.until_c <= self.above_c < math.inf:
            raise ValueError(f"need until_c <= above_c, got until_c {self.until_c:g}, above_c {self.above_c:g}")
        if not 0.0 <= self.u <= 1.0:
            raise ValueError(f"u must lie in [0, 1], got {self.u:g}")

    def hot(self, temperature_c: npt.ArrayLike, was_hot: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Whether it slows down, shape [n].

        Args:
            temperature_c: of the board, shape [n].
            was_hot: whether it did before, shape [n].
        """
        temperature = np.asarray(temperature_c, np.float64)
        return np.asarray((temperature >= self.above_c) | (np.asarray(was_hot) & (temperature >= self.until_c)))
