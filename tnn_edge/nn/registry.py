"""Networks by name, so that a recipe or a run can rebuild one from plain data.

A network is one file in `tnn_edge.nn.networks` that holds a function of the file's name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, get_type_hints

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
    if not isinstance(sizes, Mapping):
        raise RunError(f"{architecture}: sizes must be a table, got {sizes!r}")
    hints = get_type_hints(build)
    for name, value in sizes.items():
        _check_kind(architecture, name, value, hints.get(name))
    try:
        network = build(**sizes)
    except RuntimeError as err:  # torch's: a tensor of a negative size, or one that memory does not hold
        _check_counts(architecture, sizes)
        raise RunError(f"{architecture}: {str(err).splitlines()[0]}; choose smaller sizes") from err
    except IndexError as err:
        raise RunError(f"{architecture}: a list of its sizes is shorter than it has stages ({err})") from err
    except (TypeError, ValueError) as err:
        raise RunError(f"{architecture}: {err}") from err
    _check_counts(architecture, sizes)
    return network


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value < 2**31


def _is_counts(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str) and all(map(_is_count, value))


_KINDS: Mapping[Any, tuple[str, Callable[[object], bool]]] = {
    int: ("a whole number below 2^31", _is_count),
    int | None: ("a whole number below 2^31", lambda value: value is None or _is_count(value)),
    Sequence[int]: ("a list of whole numbers below 2^31", _is_counts),
    bool: ("true or false", lambda value: isinstance(value, bool)),
}
"""What an argument's annotation asks for; others, such as a choice of names, the network itself checks."""


def _check_kind(architecture: str, name: str, value: object, annotation: Any) -> None:
    if annotation in _KINDS:
        kind, is_it = _KINDS[annotation]
        if not is_it(value):
            raise RunError(f"{architecture}: {name} must be {kind}, got {value!r}")


def _check_counts(architecture: str, sizes: Mapping[str, Any]) -> None:
    """What is nought or less and no network has refused: a stage without blocks, a layer without channels."""
    for name, value in sizes.items():
        counts = value if _is_counts(value) else [value]
        if any(_is_count(count) and count < 1 for count in counts):
            raise RunError(f"{architecture}: {name} must be at least 1, got {value!r}")
