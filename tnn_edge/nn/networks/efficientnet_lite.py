"""EfficientNet-Lite: inverted bottlenecks gated in their expansion, repeats gated as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

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

__all__ = ["LiteHead", "LiteStem", "efficientnet_lite"]

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
    stem_channels: tuple[int, int] = (32, 16),
    head_channels: int = 1280,
    expansion: int = 6,
    n_components: int = 8,
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
        n_components: components of every bottleneck.
        n_classes: classes.
        dropout: share of the head's channels that a training pass leaves out.
        order: gate order.

    ``efficientnet_lite(channels=(24, 40, 80, 112, 192, 320), blocks=(2, 2, 3, 3, 4, 1), kernels=(3, 5, 3, 5, 5, 3),
    strides=(2, 2, 2, 1, 2, 1), n_classes=1000)`` is Lite0. Lite1 (240 pixels) has blocks=(3, 3, 4, 4, 5, 1); Lite2
    (260 pixels) has these, channels=(24, 48, 88, 120, 208, 352) and dropout=0.3.
    """
    if not len(channels) == len(blocks) == len(kernels) == len(strides):
        raise ValueError(
            f"{len(channels)} stages have channels, {len(blocks)} have blocks, {len(kernels)} have kernels, "
            f"{len(strides)} have strides"
        )
    if even := [kernel for kernel in kernels if kernel % 2 == 0]:
        raise ValueError(f"kernels must be odd, got {even[0]}")
    first_channels, before = stem_channels
    stem = LiteStem(first_channels=first_channels, out_channels=before)
    gated: dict[str, WidthGatedBottleneck] = {}
    for stage, after in enumerate(channels):
        for index in range(blocks[stage]):
            name = block_name(stage, index)
            width = expansion * before
            if width % n_components:
                raise ValueError(
                    f"the {width} expanded channels of {name} do not divide into {n_components} components"
                )
            gated[name] = WidthGatedBottleneck(
                gate=name,
                in_channels=before,
                out_channels=after,
                n_components=n_components,
                component_channels=width // n_components,
                stride=strides[stage] if index == 0 else 1,
                kernel=kernels[stage],
                grouping="depthwise",
                activation=F.relu6,
                activates_output=False,
                has_skip=index > 0,
                pads_same=True,
                epsilon=_EPSILON,
            )
            before = after
    repeats = [block_name(stage, index + 1) for stage, index in depth_order([n - 1 for n in blocks])]
    return ThrottleableNetwork(
        stem=stem,
        blocks=gated,
        head=LiteHead(in_channels=before, channels=head_channels, n_classes=n_classes, dropout=dropout),
        schedule=GateSchedule.widthwise(dict.fromkeys(gated, n_components), order, at_least=1, depth=repeats),
    )
