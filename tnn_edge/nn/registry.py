"""Networks by name, so that a recipe or a run can rebuild one from plain data.

A network is one file in `tnn_edge.nn.networks` that holds a function of the file's name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from tnn_edge.errors import RunError
from tnn_edge.nn import networks
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["ARCHITECTURES", "build_network", "network_module"]

ARCHITECTURES: tuple[str, ...] = tuple(sorted(module.name for module in pkgutil.iter_modules(networks.__path__)))


def network_module(architecture: str) -> ModuleType:
    """The module of a network.

    Raises:
        RunError: there is none of that name.
    """
    if architecture not in ARCHITECTURES:
        raise RunError(f"unknown architecture {architecture!r}; known: {', '.join(ARCHITECTURES)}")
    return import_module(f"{networks.__name__}.{architecture}")


def build_network(architecture: str, sizes: Mapping[str, Any]) -> ThrottleableNetwork:
    """Build a network from its name and its keyword arguments.

    Raises:
        RunError: the name is unknown, or the arguments do not fit the network.
    """
    build: Callable[..., ThrottleableNetwork] = getattr(network_module(architecture), architecture)
    try:
        return build(**sizes)
    except (TypeError, IndexError, ValueError) as err:
        raise RunError(f"{architecture}: {err}") from err
