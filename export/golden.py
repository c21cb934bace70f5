"""What the PyTorch network answers at each operating point: golden outputs and accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tnn_edge.nn.checkpoint import use_point
from tnn_edge.nn.gating import GateVector, as_masks
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics

__all__ = ["PointAccuracy", "golden_outputs", "point_accuracy"]


@torch.no_grad()
def golden_outputs(
    network: ThrottleableNetwork, points: Sequence[GateVector], table: Sequence[Statistics] | None, inputs: Tensor
) -> Tensor:
    """Logits of the masked network at each operating point, shape [P, N, classes].

    Masked, because the runtime slices: the two share nothing but the gate vectors.
    """
    rows = []
    for index, gates in enumerate(points):
        use_point(network, table, index)
        rows.append(network(inputs, as_masks(gates, len(inputs))))
    return torch.stack(rows)


@dataclass(frozen=True)
class PointAccuracy:
    """Share of right answers, and mean of the largest softmax."""

    accuracy: float
    confidence: float


@torch.no_grad()
def point_accuracy(
    network: ThrottleableNetwork, gates: GateVector, images: Sequence[Tensor], targets: Sequence[Tensor]
) -> PointAccuracy:
    """Accuracy of the sliced network over batches of normalised images [B, 3, H, W] and targets [B]."""
    right, confidence, n = 0, 0.0, 0
    for x, y in zip(images, targets, strict=True):
        probabilities = network.sliced(x, gates).softmax(dim=1)
        top, answer = probabilities.max(dim=1)
        right += int((answer == y).sum())
        confidence += float(top.sum())
        n += len(y)
    return PointAccuracy(right / n, confidence / n)
