"""Networks by name, so that a recipe or a checkpoint can rebuild one from plain data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tnn_edge.errors import RunError
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.resnet_d import resnet_d
from tnn_edge.nn.resnext_w import resnext_w

__all__ = ["ARCHITECTURES", "build_network"]

ARCHITECTURES: Mapping[str, Callable[..., ThrottleableNetwork]] = {"resnet_d": resnet_d, "resnext_w": resnext_w}


def build_network(architecture: str, sizes: Mapping[str, Any]) -> ThrottleableNetwork:
    """Build a network from its name and its keyword arguments.

    Raises:
        RunError: the name is unknown, or the arguments do not fit the network.
    """
    if architecture not in ARCHITECTURES:
        raise RunError(f"unknown architecture {architecture!r}; known: {', '.join(sorted(ARCHITECTURES))}")
    try:
        return ARCHITECTURES[architecture](**sizes)
    except (TypeError, IndexError, ValueError) as err:
        raise RunError(f"{architecture}: {err}") from err
