"""What the PyTorch network answers at each operating point."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tnn_edge.nn.checkpoint import use_point
from tnn_edge.nn.gating import GateVector, as_masks
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics

__all__ = ["golden_outputs"]


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
