"""What torchvision calls the tensors of a residual network."""

from __future__ import annotations

import re

from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["library_names"]

_RENAMED = (
    (r"^stem\.conv\.", "conv1."),
    (r"^stem\.norm\.", "bn1."),
    (r"^head\.classifier\.", "fc."),
    (r"\.skip\.conv\.", ".downsample.0."),
    (r"\.skip\.norm\.", ".downsample.1."),
    (r"\.norm(\d)\.", r".bn\1."),
)


def library_names(network: ThrottleableNetwork) -> dict[str, str]:
    """Name in torchvision's ResNet and ResNeXt -> ours, whatever the sizes."""
    return {_library_name(name): name for name in network.state_dict()}


def _library_name(name: str) -> str:
    for ours, theirs in _RENAMED:
        name = re.sub(ours, theirs, name)
    return re.sub(r"^blocks\.stage(\d+)_block(\d+)\.", lambda at: f"layer{at[1]}.{int(at[2]) - 1}.", name)
