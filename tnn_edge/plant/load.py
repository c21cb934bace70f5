"""What the board draws: a part that is always there, and a part that grows with the work done."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["BoardLoad"]


@dataclass(frozen=True, kw_only=True)
class BoardLoad:
    """Power of a board as an affine function of its computing.

    Attributes:
        idle_w: power at the board's input with camera on and network idle.
        compute_w: power on top at full throttle and full workload.
    """

    idle_w: float
    compute_w: float

    def __post_init__(self) -> None:
        for name in ("idle_w", "compute_w"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value:g}")

    def power_w(self, compute_share: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Power at the board's input.

        Args:
            compute_share: multiply-adds a second over those at u = 1 and full workload, in [0, 1], any shape.

        Raises:
            ValueError: a share outside [0, 1] or NaN.
        """
        share = np.asarray(compute_share, np.float64)
        if (wrong := share[~((share >= 0.0) & (share <= 1.0))]).size:
            raise ValueError(f"compute_share must lie in [0, 1], got {wrong[0]:g}")
        return np.asarray(self.idle_w + self.compute_w * share)
