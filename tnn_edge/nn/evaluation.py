"""How well a network answers at one gate vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["Evaluation", "evaluate"]

_BATCH = 250


@dataclass(frozen=True)
class Evaluation:
    """Share of right answers, and mean of the largest softmax."""

    accuracy: float
    confidence: float


@torch.no_grad()
def evaluate(
    network: ThrottleableNetwork, gates: GateVector, data: ImageSet, *, mean: Sequence[float], std: Sequence[float]
) -> Evaluation:
    """Run the sliced network, in evaluation mode, over a set of images.

    Args:
        network: with the normalisation statistics of this gate vector.
        gates: module -> 0/1 per component.
        data: at least one image.
        mean: per RGB channel, of pixels scaled to [0, 1].
        std: likewise.
    """
    was_training = network.training
    network.eval()
    right, confidence = 0, 0.0
    for images, targets in zip(data.images.split(_BATCH), data.targets.split(_BATCH), strict=True):
        x = normalised(images, mean, std).contiguous(memory_format=torch.channels_last)
        top, answer = network.sliced(x, gates).softmax(dim=1).max(dim=1)
        right += int((answer == targets).sum())
        confidence += float(top.sum())
    network.train(was_training)
    return Evaluation(right / len(data), confidence / len(data))
