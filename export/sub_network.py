"""A throttleable network with its gates set once and for all."""

from __future__ import annotations

from torch import Tensor, nn

from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["SubNetwork"]


class SubNetwork(nn.Module):
    """What a gate vector leaves of a network, its weights sliced in each forward pass."""

    def __init__(self, network: ThrottleableNetwork, gates: GateVector) -> None:
        super().__init__()
        self.network = network
        self.gates = gates

    def forward(self, x: Tensor) -> Tensor:
        """Images, shape [N, 3, H, W], to logits, shape [N, classes]."""
        return self.network.sliced(x, self.gates)
