"""A residual network of several stages, whatever its blocks are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.residual import Head, Stem, StemKind, block_name
from tnn_edge.nn.schedule import Schedule
from tnn_edge.nn.section import GatedBlock

__all__ = ["Place", "places", "residual_network"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a block stands.

    Attributes:
        name: of the block.
        stage: counted from 0.
        in_channels: of its input.
        out_channels: of its output.
        stride: 2 where the map is halved, else 1.
    """

    name: str
    stage: int
    in_channels: int
    out_channels: int
    stride: int


def places(channels: Sequence[int], blocks: Sequence[int]) -> Iterator[Place]:
    """The places of a network's blocks, in order.

    Args:
        channels: channels after the stem, then after each stage.
        blocks: blocks in each stage; the first of every stage but the first halves the map.
    """
    if len(blocks) != len(channels) - 1:
        raise ValueError(f"{len(channels) - 1} stages have channels, {len(blocks)} have blocks")
    for stage, (before, after) in enumerate(pairwise(channels)):
        for index in range(blocks[stage]):
            yield Place(
                name=block_name(stage, index),
                stage=stage,
                in_channels=after if index else before,
                out_channels=after,
                stride=1 if index or stage == 0 else 2,
            )


def residual_network(
    *,
    channels: Sequence[int],
    blocks: Sequence[int],
    block_at: Callable[[Place], GatedBlock],
    schedule: Schedule,
    n_classes: int,
    stem: StemKind,
    stem_channels: int | None,
    stem_stride: int = 1,
) -> ThrottleableNetwork:
    """Stem, blocks and head in a row.

    Args:
        channels: output channels of each stage.
        blocks: blocks in each stage; the first of every stage but the first halves the map.
        block_at: makes the block of a place.
        schedule: of the gates of these blocks.
        n_classes: classes.
        stem: ``cifar`` or ``imagenet``.
        stem_channels: channels after the stem, by default those of the first stage.
        stem_stride: stride of the CIFAR stem.
    """
    inputs = [stem_channels or channels[0], *channels]
    return ThrottleableNetwork(
        stem=Stem(kind=stem, out_channels=inputs[0], stride=stem_stride),
        blocks={place.name: block_at(place) for place in places(inputs, blocks)},
        head=Head(in_channels=inputs[-1], n_classes=n_classes),
        schedule=schedule,
    )
