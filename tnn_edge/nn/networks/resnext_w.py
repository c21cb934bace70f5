"""ResNeXt-W: a ResNeXt whose filter groups are gated (widthwise, summed)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tnn_edge.nn.bottleneck import WidthGatedBottleneck
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.residual import StemKind, block_names
from tnn_edge.nn.residual_network import Place, residual_network
from tnn_edge.nn.resnet_names import library_names
from tnn_edge.nn.schedule import GateOrder, GateSchedule

__all__ = ["LIBRARY_MODELS", "library_names", "resnext_w"]

_IMAGENET = {"channels": (256, 512, 1024, 2048), "stem": "imagenet", "stem_channels": 64}

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    "resnext50_32x4d": {
        "blocks": (3, 4, 6, 3), "n_components": 32, "component_channels": (4, 8, 16, 32), **_IMAGENET,
    },
    "resnext101_32x8d": {
        "blocks": (3, 4, 23, 3), "n_components": 32, "component_channels": (8, 16, 32, 64), **_IMAGENET,
    },
    "resnext101_64x4d": {
        "blocks": (3, 4, 23, 3), "n_components": 64, "component_channels": (4, 8, 16, 32), **_IMAGENET,
    },
}  # fmt: skip
"""Models of torchvision, and the sizes that they are here (`tnn_edge.nn.weights`)."""


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
    """Build a ResNeXt-W (Xie et al., 2017), of which each path 1x1 -> 3x3 -> 1x1 is a component.

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

    def block_at(place: Place) -> WidthGatedBottleneck:
        return WidthGatedBottleneck(
            gate=place.name,
            in_channels=place.in_channels,
            out_channels=place.out_channels,
            n_components=n_components,
            component_channels=component_channels[place.stage],
            stride=place.stride,
        )

    return residual_network(
        channels=channels,
        blocks=blocks,
        block_at=block_at,
        schedule=GateSchedule.widthwise(dict.fromkeys(block_names(blocks), n_components), order),
        n_classes=n_classes,
        stem=stem,
        stem_channels=stem_channels,
        stem_stride=stem_stride,
    )
