"""How well a network answers at one gate vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from tnn_edge.nn.calibration import expected_calibration_error
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["Evaluation", "evaluate"]

_BATCH = 250


@dataclass(frozen=True)
class Evaluation:
    """Share of right answers, mean of the largest softmax, and the expected calibration error between the two."""

    accuracy: float
    confidence: float
    calibration_error: float


@torch.no_grad()
def evaluate(
    network: ThrottleableNetwork,
    gates: GateVector,
    data: ImageSet | ImageTree,
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Evaluation:
    """Run the sliced network, in evaluation mode and where its weights lie, over a set of images.

    Args:
        network: with the normalisation statistics of this gate vector.
        gates: module -> 0/1 per component.
        data: at least one image.
        mean: per RGB channel, of pixels scaled to [0, 1].
        std: likewise.
    """
    was_training = network.training
    network.eval()
    confidence, is_right = [], []
    device = next(network.parameters()).device
    for x, targets in data.batches(_BATCH, mean=mean, std=std):
        top, answer = network.sliced(x.to(device), gates).softmax(dim=1).max(dim=1)
        confidence.append(top.cpu())
        is_right.append(answer.cpu() == targets)
    network.train(was_training)
    confidences, rights = torch.cat(confidence), torch.cat(is_right)
    return Evaluation(
        accuracy=int(rights.sum()) / len(data),
        confidence=float(confidences.double().mean()),
        calibration_error=expected_calibration_error(confidences, rights),
    )
