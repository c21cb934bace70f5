"""Which components a throttle setting turns on.

A *gate vector* says, for every gated module, which components are on. Modules are opened in *groups*: a widthwise
network opens the components of each module for themselves, a depthwise network opens its blocks as one group over the
whole network. Within a group the order is *nested* (the first k components, so a component that is on stays on when u
rises) or *independent* (any k of them). Hostetler, "Toward Runtime-Throttleable Neural Networks", sections 3.4, 4.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tnn_edge.throttle import check_throttle

__all__ = [
    "GateOrder",
    "GateSchedule",
    "GateVector",
    "active_components",
    "as_masks",
    "lowest_throttle",
    "nearest_point",
    "offered_over_on",
    "utilisation",
]

GateOrder = Literal["nested", "independent"]
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

    The one of largest utilisation that is not above the vector's own; where all are above it, the first.

    Args:
        gates: any gate vector.
        points: gate vectors of the operating points, u rising.
        weights: module -> cost weight of each component.
    """
    asked = utilisation(gates, weights)
    below = [i for i, point in enumerate(points) if utilisation(point, weights) <= asked + 1e-12]
    return max(below, key=lambda i: utilisation(points[i], weights), default=0)


@dataclass(frozen=True, kw_only=True)
class GateSchedule:
    """How u opens the gates of one network.

    Attributes:
        sizes: gated module -> number of components.
        groups: each group lists its components as (module, index) in the order in which they open.
        order: ``nested`` keeps the listed order, ``independent`` draws any k of a group.
        at_least: components of a group that are always on.
    """

    sizes: Mapping[str, int]
    groups: tuple[tuple[tuple[str, int], ...], ...]
    order: GateOrder = "nested"
    at_least: int = 0

    def __post_init__(self) -> None:
        if self.order not in ("nested", "independent"):
            raise ValueError(f"gate order must be 'nested' or 'independent', got {self.order!r}")
        listed = sorted(component for group in self.groups for component in group)
        offered = sorted((name, i) for name, n in self.sizes.items() for i in range(n))
        if listed != offered:
            raise ValueError("the groups must list every component of every module exactly once")

    @classmethod
    def widthwise(cls, sizes: Mapping[str, int], order: GateOrder = "nested", at_least: int = 0) -> GateSchedule:
        """Each module opens its own components."""
        groups = tuple(tuple((name, i) for i in range(n)) for name, n in sizes.items())
        return cls(sizes=sizes, groups=groups, order=order, at_least=at_least)

    @classmethod
    def depthwise(cls, blocks: Sequence[str], order: GateOrder = "nested") -> GateSchedule:
        """Whole blocks open one after the other, in the order given."""
        return cls(sizes=dict.fromkeys(blocks, 1), groups=(tuple((name, 0) for name in blocks),), order=order)

    def vector(self, u: float, generator: torch.Generator | None = None) -> GateVector:
        """The gate vector at u; an independent order draws it from `generator`."""
        masks = self.masks(torch.tensor([u], dtype=torch.float64), generator)
        return {name: tuple(int(bit) for bit in mask[0]) for name, mask in masks.items()}

    def masks(self, u: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gates for each example of a batch.

        Args:
            u: throttle in [0, 1], shape [B].
            generator: source of the draws of an independent order.

        Returns:
            module -> 0/1 mask, shape [B, n], float32.
        """
        masks = {name: torch.zeros(len(u), n) for name, n in self.sizes.items()}
        for group in self.groups:
            n = len(group)
            on = torch.tensor([active_components(value, n, at_least=self.at_least) for value in u.tolist()])
            if self.order == "nested":
                rank = torch.arange(n).expand(len(u), n)
            else:
                rank = torch.rand(len(u), n, generator=generator).argsort(dim=1)
            opened = (rank < on[:, None]).float()  # [B, n]
            for column, (name, index) in enumerate(group):
                masks[name][:, index] = opened[:, column]
        return masks

    def operating_points(self, seed: int = 0) -> list[tuple[float, GateVector]]:
        """Every distinct gate vector the dial can select, with the lowest u that selects it, u rising.

        An independent order gets one drawn vector for each setting, the same for the same seed.
        """
        dial = sorted({lowest_throttle(k, len(group)) for group in self.groups for k in range(len(group) + 1)})
        generator = torch.Generator().manual_seed(seed)
        points: list[tuple[float, GateVector]] = []
        for u in dial:
            gates = self.vector(u, generator)
            if not points or gates != points[-1][1]:
                points.append((u, gates))
        return points
