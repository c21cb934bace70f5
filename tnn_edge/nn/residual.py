"""What residual networks share: stem, skip connection, head, and the names of their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.section import Section

__all__ = ["Head", "Skip", "Stem", "StemKind", "block_name", "block_names"]

StemKind = Literal["cifar", "imagenet"]


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


class Stem(Section):
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

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, 3, H, W] -> [B, C, H', W']."""
        del masks
        x = F.relu(self.norm(self.conv(x)))
        return x if self.pool is None else self.pool(x)

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del gates
        size = conv_size(self.conv, size)
        macs = conv_macs(self.conv, size)
        return macs, size if self.pool is None else conv_size(self.pool, size)


class Head(Section):
    """Global average pooling and a fully connected layer."""

    def __init__(self, *, in_channels: int, n_classes: int) -> None:
        super().__init__()
        self.classifier = nn.Linear(in_channels, n_classes)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, C, H, W] -> logits [B, n_classes]."""
        del masks
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del gates, size
        return self.classifier.in_features * self.classifier.out_features, 1


def block_name(stage: int, index: int) -> str:
    """Name of a block; stage and index count from 0, the name from 1."""
    return f"stage{stage + 1}_block{index + 1}"


def block_names(blocks: Sequence[int]) -> list[str]:
    """Names of all blocks, in order; `blocks` is the number in each stage."""
    return [block_name(stage, index) for stage, n in enumerate(blocks) for index in range(n)]
