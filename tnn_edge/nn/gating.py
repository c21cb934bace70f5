"""Gate vectors: how many components a throttle setting turns on, and what they cost.

A *gate vector* says, for every gated module, which components are on. Hostetler, "Toward Runtime-Throttleable Neural
Networks", sections 3.1, 4, 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from tnn_edge.throttle import check_throttle

__all__ = [
    "GateVector",
    "active_components",
    "as_masks",
    "lowest_throttle",
    "nearest_point",
    "offered_over_on",
    "utilisation",
]

GateVector = Mapping[str, tuple[int, ...]]
"""Gated module -> one 0 or 1 per component."""


def active_components(u: float, n: int, *, at_least: int = 0) -> int:
    """Number of components on: ``k = min(n, floor(u (n + 1)))``, no fewer than `at_least`.

    Each k from 0 to n - 1 owns a share 1 / (n + 1) of the dial, k = n the rest.

    Raises:
        ThrottleRangeError: u lies outside [0, 1] or is NaN.
    """
    check_throttle(u)
    return max(at_least, min(n, math.floor(u * (n + 1))))


def lowest_throttle(k: int, n: int) -> float:
    """The smallest float u for which `active_components` gives k of n."""
    u = k / (n + 1)
    while active_components(u, n) < k:  # k / (n + 1) * (n + 1) may round below k
        u = math.nextafter(u, 1.0)
    while u > 0.0 and active_components(lower := math.nextafter(u, 0.0), n) >= k:  # or a smaller u's up to it
        u = lower
    return u


def offered_over_on(mask: Tensor) -> Tensor:
    """Scale of a summed module: components offered over components on, 1 where none is on.

    Args:
        mask: 0/1 gates, shape [B, n].

    Returns:
        Shape [B, 1]. At u = 1 it is 1, so the throttleable network is the plain one.
    """
    on = mask.sum(dim=1, keepdim=True)
    return torch.where(on > 0, mask.shape[1] / on.clamp(min=1.0), torch.ones_like(on))


def as_masks(gates: GateVector, batch: int) -> dict[str, Tensor]:
    """One gate vector for every example of a batch: module -> 0/1 mask, shape [batch, n]."""
    return {name: torch.tensor([bits], dtype=torch.float32).expand(batch, -1) for name, bits in gates.items()}


def utilisation(gates: GateVector, weights: Mapping[str, Sequence[float]]) -> float:
    """Cost-weighted share of active components, c(g) in equation 4 of the paper.

    Args:
        gates: module -> 0/1 per component.
        weights: module -> cost of each component when all are on, any unit, same shape as `gates`.

    Returns:
        A share in [0, 1].
    """
    total = math.fsum(cost for costs in weights.values() for cost in costs)  # exact: all on is 1, never 1 + 2e-16
    on = (cost for name, bits in gates.items() for bit, cost in zip(bits, weights[name], strict=True) if bit)
    return math.fsum(on) / total


def nearest_point(gates: GateVector, points: Sequence[GateVector], weights: Mapping[str, Sequence[float]]) -> int:
    """Index of the operating point whose normalisation statistics a gate vector uses.

    The one that has this vector; else the one of largest utilisation that is not above the vector's own; where all are
    above it, the first.

    Args:
        gates: any gate vector.
        points: gate vectors of the operating points, u rising.
        weights: module -> cost weight of each component.
    """
    for i, point in enumerate(points):
        if point == gates:
            return i
    asked = utilisation(gates, weights)
    below = [i for i, point in enumerate(points) if utilisation(point, weights) <= asked + 1e-12]
    return max(below, key=lambda i: utilisation(points[i], weights), default=0)
