"""Where the components of a gate lie on an axis of a tensor."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tnn_edge.nn.gating import offered_over_on

__all__ = ["Active", "AxisSlice", "GatedChannels", "SlicedTensor"]

Active = tuple[int, ...]
"""The components of a module that are on, rising. Plain numbers, so that sizes are known where a network is traced."""


@dataclass(frozen=True, kw_only=True)
class GatedChannels:
    """Channels of which the gates of one module keep some.

    First come `ungated` channels that stay, then `channels` for each of the first `n_components` components.

    Attributes:
        gate: the module whose gates keep or drop the components.
        n_components: components on this axis; a layer inside a dense block reads only those before it.
        channels: entries that belong to one component.
        ungated: entries that belong to none.
    """

    gate: str
    n_components: int
    channels: int
    ungated: int = 0

    @property
    def width(self) -> int:
        """Entries with everything on."""
        return self.ungated + self.n_components * self.channels

    def kept(self, active: Active) -> Tensor:
        """Entries that remain with the components `active` on, rising."""
        gated = (
            self.ungated + component * self.channels + entry
            for component in active
            if component < self.n_components
            for entry in range(self.channels)
        )
        return torch.tensor([*range(self.ungated), *gated], dtype=torch.long)

    def n_kept(self, bits: tuple[int, ...]) -> int:
        """How many entries remain."""
        return self.ungated + sum(bits[: self.n_components]) * self.channels

    def scale(self, active: Active) -> Tensor:
        """What a consumer multiplies each entry that remains by: offered over on, 1 for an ungated one."""
        on = sum(component < self.n_components for component in active)
        gated = [self.n_components / max(1, on)] * (on * self.channels)
        return torch.tensor([1.0] * self.ungated + gated)

    def weights(self, mask: Tensor) -> Tensor:
        """The same for each example of a masked batch: 0 for what is off, offered over on for what is on.

        Args:
            mask: gates of the module, shape [B, n], n >= n_components; between 0 and 1 where they are relaxed.

        Returns:
            Shape [B, width].
        """
        read = mask[:, : self.n_components]
        gated = (read * offered_over_on(read)).repeat_interleave(self.channels, dim=1)
        return torch.cat([gated.new_ones(len(mask), self.ungated), gated], dim=1)

    def on_axis(self, axis: int, *, scaled: bool = False) -> AxisSlice:
        """How a tensor with these channels on `axis` shrinks; `scaled` where it reads and combines them."""
        return AxisSlice(axis=axis, components=self, scaled=scaled)


@dataclass(frozen=True, kw_only=True)
class AxisSlice:
    """One axis of a tensor that shrinks with the gates; `scaled` also multiplies by offered over on."""

    axis: int
    components: GatedChannels
    scaled: bool = False


@dataclass(frozen=True, kw_only=True)
class SlicedTensor:
    """How gates slice one tensor.

    Attributes:
        slices: the axes that shrink.
        group_of: the tensor is the weight of a convolution whose number of groups shrinks with this gate.
    """

    slices: tuple[AxisSlice, ...]
    group_of: str | None = None
