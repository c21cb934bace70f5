"""ResNet-D: a residual network whose blocks are gated (depthwise)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from tnn_edge.nn.cost import conv_macs, conv_size
from tnn_edge.nn.depth_order import depth_order
from tnn_edge.nn.gated_channels import Active
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import BatchNorm
from tnn_edge.nn.residual import Skip, StemKind, block_name
from tnn_edge.nn.residual_network import Place, residual_network
from tnn_edge.nn.resnet_names import library_names
from tnn_edge.nn.schedule import DepthOrder, GateSchedule, PaperDepthSchedule, Schedule
from tnn_edge.nn.section import GatedBlock

__all__ = ["LIBRARY_MODELS", "BlockKind", "GatedResidualBlock", "library_names", "resnet_d"]

BlockKind = Literal["basic", "bottleneck"]

_WIDENING = 4
"""Output channels of a bottleneck over its inner ones."""

_BASIC = {"channels": (64, 128, 256, 512), "stem": "imagenet"}
_BOTTLENECK = {"channels": (256, 512, 1024, 2048), "block": "bottleneck", "stem": "imagenet", "stem_channels": 64}

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    "resnet18": {"blocks": (2, 2, 2, 2), **_BASIC},
    "resnet34": {"blocks": (3, 4, 6, 3), **_BASIC},
    "resnet50": {"blocks": (3, 4, 6, 3), **_BOTTLENECK},
    "resnet101": {"blocks": (3, 4, 23, 3), **_BOTTLENECK},
    "resnet152": {"blocks": (3, 8, 36, 3), **_BOTTLENECK},
}
"""Models of torchvision, and the sizes that they are here (`tnn_edge.nn.weights`)."""


class GatedResidualBlock(GatedBlock):
    """Residual block (He et al., 2016) whose whole branch is the one component.

    y = relu(skip(x) + g * branch(x)). The branch is two 3x3 convolutions (``basic``) or 1x1, 3x3, 1x1 with a fourth of
    the output channels inside (``bottleneck``).
    """

    def __init__(
        self, *, gate: str, in_channels: int, out_channels: int, stride: int = 1, kind: BlockKind = "basic"
    ) -> None:
        super().__init__(gate=gate, n_components=1)
        inner = out_channels // _WIDENING
        layers = {
            "basic": [(out_channels, 3, stride), (out_channels, 3, 1)],
            "bottleneck": [(inner, 1, 1), (inner, 3, stride), (out_channels, 1, 1)],
        }
        if kind not in layers:
            raise ValueError(f"block must be 'basic' or 'bottleneck', got {kind!r}")
        self.n_layers = len(layers[kind])
        before = in_channels
        for i, (after, kernel, step) in enumerate(layers[kind], start=1):
            self.add_module(f"conv{i}", nn.Conv2d(before, after, kernel, step, kernel // 2, bias=False))
            self.add_module(f"norm{i}", BatchNorm(after))
            before = after
        self.branch_norm = f"norm{self.n_layers}"
        self.branches = {self.branch_norm: None}
        self.skip = Skip(in_channels=in_channels, out_channels=out_channels, stride=stride)

    def forward(self, x: Tensor, masks: Mapping[str, Tensor] | None = None) -> Tensor:
        h = x
        for i in range(1, self.n_layers + 1):
            h = self.get_submodule(f"norm{i}")(self.get_submodule(f"conv{i}")(h))
            h = F.relu(h) if i < self.n_layers else h
        if masks is not None:
            h = h * masks[self.gate].to(h.dtype)[:, :, None, None]  # [B, 1, 1, 1]
        return F.relu(h + self.skip(x))

    def sliced(self, x: Tensor, active: Mapping[str, Active]) -> Tensor:
        return self.forward(x) if len(active[self.gate]) else F.relu(self.skip(x))

    def macs(self, gates: GateVector, size: int) -> tuple[int, int]:
        branch, out_size = 0, size
        for i in range(1, self.n_layers + 1):
            conv = self.get_submodule(f"conv{i}")
            assert isinstance(conv, nn.Conv2d)
            out_size = conv_size(conv, out_size)
            branch += conv_macs(conv, out_size)
        return sum(gates[self.gate]) * branch + self.skip.macs(out_size), out_size


def resnet_d(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    block: BlockKind = "basic",
    n_classes: int = 10,
    stem: StemKind = "cifar",
    stem_channels: int | None = None,
    order: DepthOrder = "nested",
) -> ThrottleableNetwork:
    """Build a ResNet-D.

    Args:
        channels: output channels of each stage.
        blocks: gated blocks in each stage; the first of every stage but the first halves the map.
        block: ``basic`` or ``bottleneck``.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default those of the first stage.
        order: ``nested`` runs the first k blocks of `depth_order`, ``independent`` any k, ``paper_dn`` those of the
            paper's literal rule.

    ``resnet_d(channels=(256, 512, 1024, 2048), blocks=(3, 4, 6, 3), block="bottleneck", n_classes=1000,
    stem="imagenet", stem_channels=64)`` is ResNet-50.
    """

    def block_at(place: Place) -> GatedResidualBlock:
        return GatedResidualBlock(
            gate=place.name,
            in_channels=place.in_channels,
            out_channels=place.out_channels,
            stride=place.stride,
            kind=block,
        )

    schedule: Schedule
    if order == "paper_dn":
        schedule = PaperDepthSchedule([[block_name(stage, i) for i in range(n)] for stage, n in enumerate(blocks)])
    else:
        opening = [block_name(stage, index) for stage, index in depth_order(blocks)]
        schedule = GateSchedule.depthwise(opening, order)
    return residual_network(
        channels=channels,
        blocks=blocks,
        block_at=block_at,
        schedule=schedule,
        n_classes=n_classes,
        stem=stem,
        stem_channels=stem_channels,
    )
