"""What a gate vector may cost: the complexity loss of a throttleable network.

Hostetler, "Toward Runtime-Throttleable Neural Networks", equations 1 and 4 to 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from tnn_edge.errors import RunError

__all__ = ["Penalty", "soft_utilisation"]


def soft_utilisation(gates: Tensor, weights: Tensor) -> Tensor:
    """Cost-weighted share of active components, c(g) of equation 4.

    Args:
        gates: in [0, 1], shape [B, n]; a gate between 0 and 1 counts with its value, so that it can be differentiated.
        weights: cost of each component, not negative, shape [n].

    Returns:
        A share in [0, 1], shape [B].
    """
    return gates @ weights / weights.sum()


@dataclass(frozen=True, kw_only=True)
class Penalty:
    """``lambda * C``, where C compares the utilisation with u.

    Attributes:
        kind: ``dist`` is |c - u|^p (equation 6), ``hinge`` is max(0, c - u)^p (equation 5), which lets the gates use
            less than they may.
        power: p.
        lambda_: weight of C beside the task's loss, at least 0.
    """

    kind: Literal["dist", "hinge"] = "dist"
    power: Literal[1, 2] = 2
    lambda_: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("dist", "hinge"):
            raise RunError(f"penalty must be 'dist' or 'hinge', got {self.kind!r}")
        if self.power not in (1, 2):
            raise RunError(f"power of the penalty must be 1 or 2, got {self.power}")
        if not 0.0 <= self.lambda_ < math.inf:  # also false for NaN
            raise RunError(f"lambda must be a finite weight of at least 0, got {self.lambda_:g}")

    def __call__(self, utilisation: Tensor, u: Tensor) -> Tensor:
        """Shape [B] and [B] -> [B]."""
        excess = utilisation - u
        distance = excess.abs() if self.kind == "dist" else excess.clamp(min=0.0)
        return self.lambda_ * distance**self.power
