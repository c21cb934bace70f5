"""ResNet-W: a ResNet whose bottlenecks are gated in their inner width (widthwise)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tnn_edge.nn.bottleneck import WidthGatedBottleneck
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.residual import StemKind, block_names
from tnn_edge.nn.residual_network import Place, residual_network
from tnn_edge.nn.resnet_names import library_names
from tnn_edge.nn.schedule import GateOrder, GateSchedule

__all__ = ["LIBRARY_MODELS", "library_names", "resnet_w"]

_IMAGENET = {"channels": (256, 512, 1024, 2048), "stem": "imagenet", "stem_channels": 64}

LIBRARY_MODELS: Mapping[str, Mapping[str, Any]] = {
    "resnet50": {"blocks": (3, 4, 6, 3), "inner_channels": (64, 128, 256, 512), **_IMAGENET},
    "resnet101": {"blocks": (3, 4, 23, 3), "inner_channels": (64, 128, 256, 512), **_IMAGENET},
    "resnet152": {"blocks": (3, 8, 36, 3), "inner_channels": (64, 128, 256, 512), **_IMAGENET},
    "wide_resnet50_2": {"blocks": (3, 4, 6, 3), "inner_channels": (128, 256, 512, 1024), **_IMAGENET},
    "wide_resnet101_2": {"blocks": (3, 4, 23, 3), "inner_channels": (128, 256, 512, 1024), **_IMAGENET},
}
"""Models of torchvision, and the sizes that they are here (`tnn_edge.nn.weights`)."""


def resnet_w(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    inner_channels: Sequence[int],
    n_components: int = 16,
    n_classes: int = 10,
    stem: StemKind = "cifar",
    stem_channels: int | None = None,
    order: GateOrder = "nested",
) -> ThrottleableNetwork:
    """Build a ResNet-W (He et al., 2016): components are shares of the inner channels of each bottleneck.

    Args:
        channels: output channels of each stage.
        blocks: bottlenecks in each stage; the first of every stage but the first halves the map.
        inner_channels: inner channels of a bottleneck in each stage, multiples of `n_components`.
        n_components: components of every bottleneck.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default those of the first stage.
        order: gate order.

    ``resnet_w(channels=(256, 512, 1024, 2048), blocks=(3, 4, 6, 3), inner_channels=(64, 128, 256, 512),
    n_classes=1000, stem="imagenet", stem_channels=64)`` is ResNet-50.
    """
    if n_components < 1:
        raise ValueError(f"there must be at least one component, got {n_components}")
    if uneven := [width for width in inner_channels if width % n_components]:
        raise ValueError(f"inner_channels {uneven[0]} do not divide into {n_components} components")

    def block_at(place: Place) -> WidthGatedBottleneck:
        return WidthGatedBottleneck(
            gate=place.name,
            in_channels=place.in_channels,
            out_channels=place.out_channels,
            n_components=n_components,
            component_channels=inner_channels[place.stage] // n_components,
            stride=place.stride,
            grouping="dense",
        )

    return residual_network(
        channels=channels,
        blocks=blocks,
        block_at=block_at,
        schedule=GateSchedule.widthwise(dict.fromkeys(block_names(blocks), n_components), order),
        n_classes=n_classes,
        stem=stem,
        stem_channels=stem_channels,
    )
