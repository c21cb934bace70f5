"""Functions that run in a child process, run here instead: for tests of something else than the child."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import pytest

__all__ = ["build_in_this_process"]


def _here(target: str, arguments: Mapping[str, Any], *_: object, **_more: object) -> object:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)(**arguments)


def build_in_this_process(patch: pytest.MonkeyPatch) -> None:
    """An install builds in the test what it builds in a child, which takes a second to start."""
    patch.setattr("tnn_edge.runtime.installing.confined.confined", _here)
