"""ResNeXt-W: a ResNeXt whose filter groups are gated (widthwise, summed)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.gating import GateOrder, GateSchedule, offered_over_on
from tnn_edge.nn.network import GatedBlock, Head, Skip, SlicedTensor, Stem, StemKind, ThrottleableNetwork, stages
from tnn_edge.nn.norm import BatchNorm

__all__ = ["GatedBottleneck", "resnext_w"]


class GatedBottleneck(GatedBlock):
    """ResNeXt bottleneck (Xie et al., 2017) in which each path 1x1 -> 3x3 -> 1x1 is a component; paths are summed.

    y = relu(skip(x) + norm3(n / k * sum of the paths that are on)), and relu(skip(x)) when none is. The scale keeps
    the sum's size the same for every k and is 1 at k = n.
    """

    branch_output = "norm3"

    def __init__(
        self, *, in_channels: int, out_channels: int, n_components: int, component_channels: int, stride: int = 1
    ) -> None:
        super().__init__()
        width = n_components * component_channels
        self.n_components = n_components
        self.component_channels = component_channels
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.norm1 = BatchNorm(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=n_components, bias=False)
        self.norm2 = BatchNorm(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.norm3 = BatchNorm(out_channels)
        self.skip = Skip(in_channels=in_channels, out_channels=out_channels, stride=stride)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        h = F.relu(self.norm1(self.conv1(x)))
        h = F.relu(self.norm2(self.conv2(h)))
        if mask is None:
            return F.relu(self.norm3(self.conv3(h)) + self.skip(x))
        gates = (mask * offered_over_on(mask)).repeat_interleave(self.component_channels, dim=1)  # [B, width]
        branch = self.norm3(self.conv3(h * gates[:, :, None, None]))
        is_on = (mask.sum(dim=1) > 0).to(branch.dtype)  # norm3 turns an empty sum into a constant: absent is absent
        return F.relu(branch * is_on[:, None, None, None] + self.skip(x))

    def sliced(self, x: Tensor, active: Tensor) -> Tensor:
        k = len(active)
        if k == 0:
            return F.relu(self.skip(x))
        if k == self.n_components:
            return self.forward(x)
        d = self.component_channels
        channels = (active[:, None] * d + torch.arange(d)).flatten()  # [k * d]
        h = F.relu(self.norm1(F.conv2d(x, self.conv1.weight[channels]), channels))
        h = F.conv2d(h, self.conv2.weight[channels], None, self.conv2.stride, self.conv2.padding, groups=k)
        h = F.relu(self.norm2(h, channels))
        branch = F.conv2d(h, self.conv3.weight[:, channels] * (self.n_components / k))
        return F.relu(self.norm3(branch) + self.skip(x))

    def macs(self, k: int, size: int) -> tuple[int, int]:
        out_size = conv_size(self.conv2, size)
        width = k * self.component_channels
        paths = (
            conv_macs(self.conv1, size, outputs=width)
            + conv_macs(self.conv2, out_size, outputs=width)
            + conv_macs(self.conv3, out_size, inputs=width)
        )
        return paths + self.skip.macs(out_size), out_size

    def sliced_tensors(self) -> dict[str, SlicedTensor]:
        out = SlicedTensor(axis=0, channels=self.component_channels)
        norms = {
            f"{norm}.{tensor}": out
            for norm in ("norm1", "norm2")
            for tensor in ("weight", "bias", "running_mean", "running_var")
        }
        return {
            "conv1.weight": out,
            "conv2.weight": SlicedTensor(axis=0, channels=self.component_channels, groups=True),
            "conv3.weight": SlicedTensor(axis=1, channels=self.component_channels, scaled=True),
            **norms,
        }


def resnext_w(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    component_channels: Sequence[int],
    n_components: int = 16,
    n_classes: int = 10,
    stem: StemKind = "cifar",
    stem_channels: int | None = None,
    stem_stride: int = 1,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build a ResNeXt-W.

    Args:
        channels: output channels of each stage.
        blocks: bottlenecks in each stage; the first of every stage but the first halves the map.
        component_channels: width of one path in each stage.
        n_components: gated paths in every bottleneck.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default those of the first stage.
        stem_stride: stride of the CIFAR stem.
        order: gate order.

    ``resnext_w(channels=(256, 512, 1024, 2048), blocks=(3, 4, 6, 3), component_channels=(4, 8, 16, 32),
    n_components=32, n_classes=1000, stem="imagenet", stem_channels=64)`` is ResNeXt-50 32x4d.
    """
    inputs = [stem_channels or channels[0], *channels]
    gated: dict[str, GatedBlock] = {
        name: GatedBottleneck(
            in_channels=before,
            out_channels=after,
            n_components=n_components,
            component_channels=component_channels[stage],
            stride=stride,
        )
        for name, stage, before, after, stride in stages(inputs, blocks)
    }
    return ThrottleableNetwork(
        stem=Stem(kind=stem, out_channels=inputs[0], stride=stem_stride),
        blocks=gated,
        head=Head(in_channels=inputs[-1], n_classes=n_classes),
        schedule=GateSchedule.widthwise({name: block.n_components for name, block in gated.items()}, order),
    )
