"""What every throttleable network has: a stem, named gated blocks, a head, and a gate schedule."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.gating import GateSchedule, GateVector
from tnn_edge.nn.norm import BatchNorm

__all__ = [
    "GatedBlock",
    "Head",
    "Skip",
    "SlicedTensor",
    "Stem",
    "StemKind",
    "ThrottleableNetwork",
    "block_name",
    "stages",
]

StemKind = Literal["cifar", "imagenet"]


@dataclass(frozen=True, kw_only=True)
class SlicedTensor:
    """How the gates of a block slice one of its tensors.

    Attributes:
        axis: the axis that shrinks.
        channels: entries of that axis that belong to one component; component i owns the i-th run of them.
        scaled: multiply by components offered over components on.
        groups: the tensor is the weight of a convolution whose `group` attribute shrinks with it.
    """

    axis: int
    channels: int
    scaled: bool = False
    groups: bool = False


class GatedBlock(nn.Module):
    """A gated module with its skip connection; the unit of export.

    The same function can be computed in two ways, equal for every gate vector: *masked*, all components computed and
    each example multiplied by its own gates (training), and *sliced*, only the components that are on computed for
    the whole batch (really less work). With no component on, the block is its skip connection alone.

    Attributes:
        n_components: components that the gates can turn on.
        branch_output: the submodule whose output is exactly zero when no component is on.
    """

    n_components: int
    branch_output: str

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Masked computation.

        Args:
            x: shape [B, C, H, W].
            mask: 0/1 gates, shape [B, n_components]; None is the plain block.
        """
        raise NotImplementedError

    def sliced(self, x: Tensor, active: Tensor) -> Tensor:
        """Compute the components listed in `active` (indices, shape [k]) for the whole batch."""
        raise NotImplementedError

    def macs(self, k: int, size: int) -> tuple[int, int]:
        """MACs of one example with k components on and an input of size x size; the second value is the output size."""
        raise NotImplementedError

    def sliced_tensors(self) -> Mapping[str, SlicedTensor]:
        """State-dict names of the tensors that shrink with the gates."""
        raise NotImplementedError


class Skip(nn.Module):
    """Identity, or a projection (1x1 convolution and normalisation) where the shape changes. Never gated."""

    def __init__(self, *, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv: nn.Conv2d | None = None
        if stride != 1 or in_channels != out_channels:
            self.conv = nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)
            self.norm = BatchNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return x if self.conv is None else self.norm(self.conv(x))

    def macs(self, out_size: int) -> int:
        return 0 if self.conv is None else conv_macs(self.conv, out_size)


class Stem(nn.Module):
    """First convolution: 3x3 for CIFAR; 7x7 of stride 2 and max pooling for ImageNet (He et al., 2016)."""

    def __init__(self, *, kind: StemKind, out_channels: int, in_channels: int = 3, stride: int = 1) -> None:
        super().__init__()
        if kind not in ("cifar", "imagenet"):
            raise ValueError(f"stem must be 'cifar' or 'imagenet', got {kind!r}")
        imagenet = kind == "imagenet"
        kernel, stride = (7, 2) if imagenet else (3, stride)
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, bias=False)
        self.norm = BatchNorm(out_channels)
        self.pool = nn.MaxPool2d(3, 2, 1) if imagenet else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, C, H', W']."""
        x = F.relu(self.norm(self.conv(x)))
        return x if self.pool is None else self.pool(x)

    def macs(self, size: int) -> tuple[int, int]:
        size = conv_size(self.conv, size)
        macs = conv_macs(self.conv, size)
        return macs, size if self.pool is None else conv_size(self.pool, size)


class Head(nn.Module):
    """Global average pooling and a fully connected layer."""

    def __init__(self, *, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> logits [B, n_classes]."""
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits

    def macs(self) -> int:
        return self.classifier.in_features * self.classifier.out_features


def stages(channels: Sequence[int], blocks: Sequence[int]) -> Iterator[tuple[str, int, int, int, int]]:
    """The blocks of a residual network of several stages, in order.

    Args:
        channels: channels after the stem, then after each stage.
        blocks: blocks in each stage; the first of every stage but the first halves the map.

    Yields:
        Name, stage (counted from 0), input channels, output channels, stride.
    """
    if len(blocks) != len(channels) - 1:
        raise ValueError(f"{len(channels) - 1} stages have channels, {len(blocks)} have blocks")
    for stage, (before, after) in enumerate(pairwise(channels)):
        for index in range(blocks[stage]):
            first = index == 0
            stride = 2 if first and stage > 0 else 1
            yield block_name(stage, index), stage, before if first else after, after, stride


def block_name(stage: int, index: int) -> str:
    """Name of a block; stage and index count from 0, the name from 1."""
    return f"stage{stage + 1}_block{index + 1}"


class ThrottleableNetwork(nn.Module):
    """One classifier h(x, u) whose blocks are gated.

    Attributes:
        blocks: gated blocks by name, in the order in which they run.
        schedule: which components u turns on.
    """

    def __init__(self, *, stem: Stem, blocks: Mapping[str, GatedBlock], head: Head, schedule: GateSchedule) -> None:
        super().__init__()
        self.stem = stem
        self.blocks = nn.ModuleDict(blocks)
        self.head = head
        self.schedule = schedule
        self._initialise()

    def _initialise(self) -> None:
        """He initialisation; branches start at zero, which spares deep networks (Goyal et al., 2017)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for block in self.gated_blocks.values():
            norm = block.get_submodule(block.branch_output)
            assert isinstance(norm, BatchNorm)
            nn.init.zeros_(norm.weight)

    @property
    def gated_blocks(self) -> dict[str, GatedBlock]:
        """`blocks`, typed."""
        return {name: block for name, block in self.blocks.items() if isinstance(block, GatedBlock)}

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """Masked computation: every component runs, each example has its own gates.

        Args:
            x: images, shape [B, 3, H, W].
            masks: block -> 0/1 gates, shape [B, n]; None is the plain network, u = 1.

        Returns:
            Logits, shape [B, n_classes].
        """
        x = self.stem(x)
        for name, block in self.blocks.items():
            x = block(x, None if masks is None else masks[name])
        logits: Tensor = self.head(x)
        return logits

    def sliced(self, x: Tensor, gates: GateVector) -> Tensor:
        """Sliced computation: one gate vector for the batch, components that are off are not computed.

        Equal to `forward` with the same gates in every row, up to rounding.
        """
        x = self.stem(x)
        for name, block in self.gated_blocks.items():
            x = block.sliced(x, torch.tensor([i for i, bit in enumerate(gates[name]) if bit], dtype=torch.long))
        logits: Tensor = self.head(x)
        return logits

    def macs(self, gates: GateVector, image_size: int) -> int:
        """MACs of one example through the sliced network (`tnn_edge.nn.cost` has the convention)."""
        total, size = self.stem.macs(image_size)
        for name, block in self.gated_blocks.items():
            macs, size = block.macs(sum(gates[name]), size)
            total += macs
        return total + self.head.macs()

    def component_costs(self, image_size: int) -> dict[str, tuple[float, ...]]:
        """Cost weight of every component for `utilisation`: its MACs when all components are on."""
        _, size = self.stem.macs(image_size)
        costs: dict[str, tuple[float, ...]] = {}
        for name, block in self.gated_blocks.items():
            n = block.n_components
            full, out_size = block.macs(n, size)
            off, _ = block.macs(0, size)
            costs[name] = ((full - off) / n,) * n
            size = out_size
        return costs
