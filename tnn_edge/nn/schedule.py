"""In which order a throttle setting opens the gates of a network.

Modules are opened in *groups*: a widthwise network opens the components of each module for themselves, a depthwise
network opens its blocks as one group over the whole network. Within a group the order is *nested* (the first k
components, so a component that is on stays on when u rises) or *independent* (any k of them). A network throttled along
both axes also has *depth*: modules that are off as a whole until their turn comes. Hostetler, "Toward
Runtime-Throttleable Neural Networks", sections 3.4, 4.1, 5.2.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from tnn_edge.nn.depth_order import paper_dn
from tnn_edge.nn.gating import GateVector, active_components, lowest_throttle

__all__ = ["DepthOrder", "GateGroup", "GateOrder", "GateSchedule", "PaperDepthSchedule", "Schedule"]

GateOrder = Literal["nested", "independent"]
DepthOrder = Literal["nested", "independent", "paper_dn"]


class Schedule(ABC):
    """What u does to the gates of one network.

    Attributes:
        sizes: gated module -> number of components.
    """

    sizes: Mapping[str, int]

    @abstractmethod
    def masks(self, u: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Gates for each example of a batch.

        Args:
            u: throttle in [0, 1], shape [B].
            generator: source of the draws of an independent order.

        Returns:
            module -> 0/1 mask, shape [B, n], float32.
        """

    @abstractmethod
    def dial(self) -> Sequence[float]:
        """Every u at which the gates may change, rising from 0."""

    def always_on(self, name: str) -> int:
        """Components of a module that are on at any u; 0 where the module may be off as a whole."""
        del name
        return 0

    def vector(self, u: float, generator: torch.Generator | None = None) -> GateVector:
        """The gate vector at u; an independent order draws it from `generator`."""
        masks = self.masks(torch.tensor([u], dtype=torch.float64), generator)
        return {name: tuple(int(bit) for bit in mask[0]) for name, mask in masks.items()}

    def operating_points(self, seed: int = 0, n_points: int | None = None) -> list[tuple[float, GateVector]]:
        """Gate vectors of the dial with the lowest u that selects each, u rising; no two neighbours are equal.

        Args:
            seed: of the vectors of an independent order: one drawn for each setting, the same for the same seed.
            n_points: settings i / (n_points - 1) of the dial, at least 2; None for every setting of `dial`.
        """
        settings = self.dial() if n_points is None else [i / (n_points - 1) for i in range(n_points)]
        generator = torch.Generator().manual_seed(seed)
        points: list[tuple[float, GateVector]] = []
        for u in settings:
            gates = self.vector(u, generator)
            if not points or gates != points[-1][1]:
                points.append((u, gates))
        return points


@dataclass(frozen=True, kw_only=True)
class GateGroup:
    """Components that open together.

    Attributes:
        components: (module, index) in the order in which they open.
        at_least: how many of them are always on.
    """

    components: tuple[tuple[str, int], ...]
    at_least: int = 0

    @property
    def modules(self) -> frozenset[str]:
        """The modules that the components belong to."""
        return frozenset(name for name, _ in self.components)


@dataclass(frozen=True, kw_only=True)
class GateSchedule(Schedule):
    """Groups of components that open one after the other.

    Attributes:
        sizes: gated module -> number of components.
        groups: every component of every module, once.
        order: ``nested`` keeps the listed order, ``independent`` draws any k of a group.
        depth: modules that are off as a whole until their turn comes, in that order; each k of them owns a share of
            the dial as components do.
    """

    sizes: Mapping[str, int]
    groups: tuple[GateGroup, ...]
    order: GateOrder = "nested"
    depth: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.order not in ("nested", "independent"):
            raise ValueError(
                f"components open 'nested' or 'independent', got {self.order!r}; only a network that can leave out "
                "whole blocks has a depthwise order"
            )
        listed = sorted(component for group in self.groups for component in group.components)
        offered = sorted((name, i) for name, n in self.sizes.items() for i in range(n))
        if listed != offered:
            raise ValueError("the groups must list every component of every module exactly once")
        if not set(self.depth) <= set(self.sizes):
            raise ValueError("depth must list gated modules")

    @classmethod
    def widthwise(
        cls,
        sizes: Mapping[str, int],
        order: GateOrder = "nested",
        *,
        at_least: int | Mapping[str, int] = 0,
        depth: Sequence[str] = (),
    ) -> GateSchedule:
        """Each module opens its own components.

        Args:
            sizes: gated module -> number of components.
            order: within each module.
            at_least: components of a module that are on whenever the module is.
            depth: modules that are off as a whole until their turn comes.
        """
        least = dict.fromkeys(sizes, at_least) if isinstance(at_least, int) else at_least
        groups = tuple(
            GateGroup(components=tuple((name, i) for i in range(n)), at_least=least.get(name, 0))
            for name, n in sizes.items()
        )
        return cls(sizes=sizes, groups=groups, order=order, depth=tuple(depth))

    @classmethod
    def depthwise(cls, blocks: Sequence[str], order: GateOrder = "nested") -> GateSchedule:
        """Whole blocks open one after the other, in the order given (`depth_order`)."""
        group = GateGroup(components=tuple((name, 0) for name in blocks))
        return cls(sizes=dict.fromkeys(blocks, 1), groups=(group,), order=order)

    def always_on(self, name: str) -> int:
        alone = (group.at_least for group in self.groups if group.modules == {name})
        return 0 if name in self.depth else next(alone, 0)

    def masks(self, u: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        masks = {name: torch.zeros(len(u), n) for name, n in self.sizes.items()}
        for group in self.groups:
            opened = self._opened(u, len(group.components), group.at_least, generator)
            for column, (name, index) in enumerate(group.components):
                masks[name][:, index] = opened[:, column]
        if self.depth:
            is_on = self._opened(u, len(self.depth), 0, generator)
            for column, name in enumerate(self.depth):
                masks[name] *= is_on[:, column, None]
        return masks

    def _opened(self, u: Tensor, n: int, at_least: int, generator: torch.Generator | None) -> Tensor:
        """Which of n things that open one after the other are open at each u: 0/1, shape [B, n]."""
        on = torch.tensor([active_components(value, n, at_least=at_least) for value in u.tolist()])
        if self.order == "nested":
            rank = torch.arange(n).expand(len(u), n)
        else:
            rank = torch.rand(len(u), n, generator=generator).argsort(dim=1)
        return (rank < on[:, None]).float()

    def dial(self) -> list[float]:
        opening = [len(group.components) for group in self.groups] + [len(self.depth)]
        return sorted({lowest_throttle(k, n) for n in opening for k in range(n + 1)})


class PaperDepthSchedule(Schedule):
    """The paper's literal rule for whole blocks (`tnn_edge.nn.depth_order.paper_dn`), which is not nested.

    Args:
        blocks: names of the gated blocks of each stage, input first.
    """

    def __init__(self, blocks: Sequence[Sequence[str]]) -> None:
        self.blocks = blocks
        self.sizes = {name: 1 for stage in blocks for name in stage}
        self._stage_sizes = [len(stage) for stage in blocks]

    def masks(self, u: Tensor, generator: torch.Generator | None = None) -> dict[str, Tensor]:
        del generator
        on = torch.tensor([paper_dn(value, self._stage_sizes) for value in u.tolist()])  # [B, stages]
        return {
            name: (on[:, stage, None] > index).float()
            for stage, names in enumerate(self.blocks)
            for index, name in enumerate(names)
        }

    def dial(self) -> list[float]:
        shares = {i / n for n in (*self._stage_sizes, sum(self._stage_sizes)) for i in range(n + 1)}
        return sorted(shares)
