"""Import other rooms of the package from checks that run at the same time."""

from __future__ import annotations

import importlib
from threading import Lock

__all__ = ["load_room"]

_ONE_AT_A_TIME = Lock()


def load_room(name: str) -> None:
    """Import a package of ours, as one thread of several.

    Its modules import each other, and Python breaks a deadlock between two threads that each wait for a module of the
    other by showing one of them a module that is not finished yet.

    Raises:
        Exception: whatever importing it raises.
    """
    with _ONE_AT_A_TIME:
        importlib.import_module(name)
