"""ResNet-D: a residual network whose blocks are gated (depthwise)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.depth_order import depth_order
from tnn_edge.nn.gating import GateOrder, GateSchedule
from tnn_edge.nn.network import (
    GatedBlock,
    Head,
    Skip,
    SlicedTensor,
    Stem,
    StemKind,
    ThrottleableNetwork,
    block_name,
    stages,
)
from tnn_edge.nn.norm import BatchNorm

__all__ = ["GatedBasicBlock", "resnet_d"]


class GatedBasicBlock(GatedBlock):
    """Residual block of two 3x3 convolutions (He et al., 2016); the whole branch is the one component.

    y = relu(skip(x) + g * branch(x)).
    """

    n_components = 1
    branch_output = "norm2"

    def __init__(self, *, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False)
        self.norm1 = BatchNorm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, 1, 1, bias=False)
        self.norm2 = BatchNorm(out_channels)
        self.skip = Skip(in_channels=in_channels, out_channels=out_channels, stride=stride)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(h))
        if mask is not None:
            branch = branch * mask.to(branch.dtype)[:, :, None, None]  # [B, 1, 1, 1]
        return F.relu(branch + self.skip(x))

    def sliced(self, x: Tensor, active: Tensor) -> Tensor:
        return self.forward(x) if len(active) else F.relu(self.skip(x))

    def macs(self, k: int, size: int) -> tuple[int, int]:
        out_size = conv_size(self.conv1, size)
        branch = conv_macs(self.conv1, out_size) + conv_macs(self.conv2, out_size)
        return k * branch + self.skip.macs(out_size), out_size

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        return {}


def resnet_d(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    n_classes: int = 10,
    stem: StemKind = "cifar",
    stem_channels: int | None = None,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build a ResNet-D.

    Args:
        channels: output channels of each stage.
        blocks: gated blocks in each stage; the first of every stage but the first halves the map.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default those of the first stage.
        order: ``nested`` runs the first k blocks of `depth_order`, ``independent`` any k.
    """
    inputs = [stem_channels or channels[0], *channels]
    gated: dict[str, GatedBlock] = {
        name: GatedBasicBlock(in_channels=before, out_channels=after, stride=stride)
        for name, _, before, after, stride in stages(inputs, blocks)
    }
    opening = [block_name(stage, index) for stage, index in depth_order(blocks)]
    return ThrottleableNetwork(
        stem=Stem(kind=stem, out_channels=inputs[0]),
        blocks=gated,
        head=Head(in_channels=inputs[-1], n_classes=n_classes),
        schedule=GateSchedule.depthwise(opening, order),
    )
