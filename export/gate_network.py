"""A learned gate that looks at the image, as one small ONNX graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
import torch
from torch import Tensor, nn

from export.blocks import to_onnx
from tnn_edge.bundle import GateNetworkSpec
from tnn_edge.nn.learned_gates import GateNetwork

__all__ = ["GATE_NETWORK", "export_gate_network", "golden_gate"]

GATE_NETWORK = "gate.onnx"
_GOLDEN_SETTINGS = 9


def export_gate_network(gate: GateNetwork, image_size: int, folder: Path) -> GateNetworkSpec:
    """Write the gate network; its weights lie in the file itself.

    Args:
        gate: in evaluation mode.
        image_size: height and width of the input.
        folder: the bundle's folder.

    Returns:
        What the manifest says of it.
    """
    spec = GateNetworkSpec(file=GATE_NETWORK, image="x", throttle="u", scores="scores", macs=_macs(gate))
    inputs = {spec.image: torch.zeros(1, 3, image_size, image_size), spec.throttle: torch.zeros(1)}
    model = to_onnx(gate, inputs, spec.scores)
    model.graph.name = "gate"
    ir.save(model, folder / spec.file)
    return spec


def _macs(gate: GateNetwork) -> int:
    layers = (module for module in gate.modules() if isinstance(module, nn.Linear))
    return sum(layer.in_features * layer.out_features for layer in layers) + gate.codes.numel()


@torch.no_grad()
def golden_gate(gate: GateNetwork, inputs: Tensor) -> dict[str, npt.NDArray[np.float32]]:
    """What the gate network says to the golden inputs: ``gate_throttles`` [S] and ``gate_scores`` [S, N, P]."""
    settings = torch.linspace(0.0, 1.0, _GOLDEN_SETTINGS)
    scores = torch.stack([gate(inputs, u.expand(len(inputs))) for u in settings])
    return {"gate_throttles": settings.numpy(), "gate_scores": scores.numpy()}
