"""Throttleable networks in PyTorch: gates, gated modules, architectures, cost."""

try:
    import torch  # noqa: F401
except ImportError as err:
    from tnn_edge.errors import MissingExtraError

    raise MissingExtraError("tnn_edge.nn needs PyTorch: pip install 'tnn-edge[train]'") from err

from tnn_edge.nn.depth_order import depth_order, paper_dn
from tnn_edge.nn.gating import GateSchedule, GateVector, active_components, utilisation
from tnn_edge.nn.network import GatedBlock, ThrottleableNetwork
from tnn_edge.nn.registry import ARCHITECTURES, build_network
from tnn_edge.nn.resnet_d import resnet_d
from tnn_edge.nn.resnext_w import resnext_w

__all__ = [
    "ARCHITECTURES",
    "GateSchedule",
    "GateVector",
    "GatedBlock",
    "ThrottleableNetwork",
    "active_components",
    "build_network",
    "depth_order",
    "paper_dn",
    "resnet_d",
    "resnext_w",
    "utilisation",
]
