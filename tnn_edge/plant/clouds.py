"""Clouds: which share of the clear sky's light arrives, moment by moment."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Clouds"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Clouds:
    """A share of the clear sky's irradiance that fluctuates about a given mean and stays in (0, `max_index`).

    The share over `max_index` is the logistic function of an Ornstein-Uhlenbeck process. So a day of half clearness
    flickers, and a fine or an overcast one hardly does. A cut-off log-normal would do neither, and would lose light on
    fine days.

    The defaults fit 20 days of minutes measured at Payerne in June 2016 (BSRN) with the sun above 10 degrees: the share
    went over 1.2 in 1.5 % of the minutes, its logit stood 1.3 about the day's mean, and correlated by 0.4 over half an
    hour.

    Attributes:
        variability: standard deviation of the share's logit; 0 is a steady sky.
        correlation_s: time constant of the fluctuation.
        max_index: largest share; above 1, because the edge of a cloud adds light.
    """

    variability: float = 1.3
    correlation_s: float = 1800.0
    max_index: float = 1.2

    def __post_init__(self) -> None:
        if not 0.0 <= self.variability <= 4.0:
            raise ValueError(f"variability must lie in [0, 4], got {self.variability:g}")
        for name in ("correlation_s", "max_index"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")

    def checked(self, clearness: npt.ArrayLike) -> Floats:
        """Means as an array, shape [n_steps].

        Raises:
            ValueError: a mean that this sky cannot have.
        """
        means = np.asarray(clearness, np.float64)
        if means.ndim != 1 or means.size == 0:
            raise ValueError(f"clearness must be a sequence of at least one number, got shape {means.shape}")
        for i in np.flatnonzero(~((means > 0.0) & (means < self.max_index)))[:1]:
            raise ValueError(
                f"clearness must lie between 0 and max_index {self.max_index:g}, got {means[i]:g} at position {i}"
            )
        return means

    def index(self, clearness: npt.ArrayLike, rngs: Sequence[np.random.Generator], *, step_s: float) -> Floats:
        """Draw a sequence of shares per generator, each from its own generator alone.

        Args:
            clearness: mean of each step over all draws, in (0, `max_index`), shape [n_steps].
            rngs: one per device, n of them; each gives n_steps normal numbers.
            step_s: length of a step in seconds.

        Returns:
            Shape [n, n_steps]. The first step is as spread as any other.
        """
        means = self.checked(clearness)
        if not rngs:
            raise ValueError("rngs must hold at least one generator")
        keep = math.exp(-step_s / self.correlation_s)
        process = np.stack([rng.standard_normal(means.size) for rng in rngs], axis=1)  # [n_steps, n]
        process[1:] *= math.sqrt(1.0 - keep * keep)
        for i in range(1, means.size):
            process[i] += keep * process[i - 1]
        values, where = np.unique(means, return_inverse=True)
        level = self._level(values / self.max_index)[where]
        logit = np.ascontiguousarray((level[:, None] + self.variability * process).T)
        return np.asarray(self.max_index * _logistic(logit))

    def _level(self, share: Floats) -> Floats:
        """The constant, shape [k], at which the logistic of it plus the fluctuation has the mean `share`, shape [k]."""
        z = np.linspace(-8.0, 8.0, 257)
        weight = np.exp(-0.5 * z * z)
        weight /= weight.sum()
        middle = np.log(share / (1.0 - share))
        # The fluctuation draws the mean towards 1/2; a shift of at most half its variance makes that good (Jensen).
        low, high = middle - 0.5 * self.variability**2, middle + 0.5 * self.variability**2
        for _ in range(60):
            level = 0.5 * (low + high)
            # A product with a matrix would round by the number of its rows, and a day hang on other days.
            is_low = (_logistic(level[:, None] + self.variability * z) * weight).sum(axis=1) < share
            low, high = np.where(is_low, level, low), np.where(is_low, high, level)
        return 0.5 * (low + high)


def _logistic(x: Floats) -> Floats:
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * x))  # overflows nowhere
