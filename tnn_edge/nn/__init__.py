"""Throttleable networks in PyTorch: gates, gated modules, architectures, cost."""

try:
    import torch  # noqa: F401
except ImportError as err:
    from tnn_edge.errors import MissingExtraError

    raise MissingExtraError("tnn_edge.nn needs PyTorch: pip install 'tnn-edge[train]'") from err

from tnn_edge.nn.depth_order import depth_order, paper_dn
from tnn_edge.nn.gating import GateVector, active_components, utilisation
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.registry import ARCHITECTURES, build_network
from tnn_edge.nn.schedule import GateGroup, GateSchedule, Schedule
from tnn_edge.nn.section import GatedBlock, Section

__all__ = [
    "ARCHITECTURES",
    "GateGroup",
    "GateSchedule",
    "GateVector",
    "GatedBlock",
    "Schedule",
    "Section",
    "ThrottleableNetwork",
    "active_components",
    "build_network",
    "depth_order",
    "paper_dn",
    "utilisation",
]
