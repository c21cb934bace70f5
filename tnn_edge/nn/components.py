"""The components of a whole network as one row: what a controller decides on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from tnn_edge.nn.gating import GateVector

__all__ = ["Components"]


class _Gated(Protocol):
    @property
    def sizes(self) -> Mapping[str, int]: ...

    def always_on(self, name: str, /) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Components:
    """Every component of a network, in a fixed order: modules as `sizes` lists them, components by index.

    Attributes:
        sizes: gated module -> number of components.
        least: components of each module that must be on at any u. Where a module must not be empty, its most probable
            components are on whatever else is drawn: `keep_on` is the same when gates are sampled, thresholded and
            gathered into a codebook, so a controller is trained as it will be used.
    """

    sizes: Mapping[str, int]
    least: Mapping[str, int]

    @classmethod
    def of(cls, schedule: _Gated) -> Components:
        """The components of a network, from its schedule."""
        return cls(sizes=dict(schedule.sizes), least={name: schedule.always_on(name) for name in schedule.sizes})

    def __len__(self) -> int:
        return sum(self.sizes.values())

    def row(self, values: Mapping[str, Sequence[float]]) -> Tensor:
        """One value for each component -> shape [n], float32."""
        return torch.tensor([value for name in self.sizes for value in values[name]], dtype=torch.float32)

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Rows for the network, shape [B, n] -> module -> its part, shape [B, components]."""
        return dict(zip(self.sizes, rows.split(list(self.sizes.values()), dim=1), strict=True))

    def vector(self, row: Tensor) -> GateVector:
        """A row of 0 and 1, shape [n] -> gate vector."""
        return {name: tuple(int(bit) for bit in part[0]) for name, part in self.split(row[None]).items()}

    def keep_on(self, gates: Tensor, logits: Tensor) -> Tensor:
        """Turn on the most probable components of modules that must not be empty.

        Args:
            gates: in [0, 1], shape [B, n]; differentiable.
            logits: log-odds of each component to be on, shape [B, n].

        Returns:
            Same shape as `gates`.
        """
        if not any(self.least.values()):
            return gates
        forced = []
        for name, part in self.split(logits).items():
            top = part.topk(self.least[name], dim=1).indices
            forced.append(torch.zeros_like(part).scatter_(1, top, 1.0))
        return torch.maximum(gates, torch.cat(forced, dim=1))

    def thresholded(self, logits: Tensor) -> Tensor:
        """Gates that are more probably on than off: the limit of the relaxed ones at temperature 0. Shape [B, n]."""
        return self.keep_on((logits > 0).float(), logits)
