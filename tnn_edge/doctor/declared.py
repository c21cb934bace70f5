"""What the installed tnn-edge declares about itself: the Pythons it knows and the releases it needs."""

from __future__ import annotations

import re
from importlib import metadata

__all__ = ["DISTRIBUTION", "least_python", "lower_bounds", "newest_python", "release"]

DISTRIBUTION = "tnn-edge"

_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)>=(?P<bound>[\d.]+)\s*(?:;\s*extra == \"(?P<extra>\w+)\")?")
_CLASSIFIER = "Programming Language :: Python :: "


def lower_bounds(extra: str | None = None) -> dict[str, str]:
    """The oldest release of each package that is needed, by its name; those of an extra, or of tnn-edge itself.

    A requirement that holds on some Pythons alone is left out.

    Raises:
        importlib.metadata.PackageNotFoundError: tnn-edge is not installed.
    """
    found = (_REQUIREMENT.fullmatch(text) for text in metadata.requires(DISTRIBUTION) or ())
    return {match["name"]: match["bound"] for match in found if match is not None and match["extra"] == extra}


def least_python() -> tuple[int, ...]:
    """The oldest Python that tnn-edge runs on.

    Raises:
        importlib.metadata.PackageNotFoundError: tnn-edge is not installed.
    """
    return release(metadata.metadata(DISTRIBUTION)["Requires-Python"])


def newest_python() -> tuple[int, ...]:
    """The newest Python that tnn-edge was tried on.

    Raises:
        importlib.metadata.PackageNotFoundError: tnn-edge is not installed.
    """
    classifiers = metadata.metadata(DISTRIBUTION).get_all("Classifier") or []
    return max(release(text) for text in classifiers if text.startswith(_CLASSIFIER))


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version, to be compared: (1, 23) of `1.23.0rc1`, with zeros at the end left out."""
    match = re.search(r"\d+(\.\d+)*", version)
    numbers = [int(number) for number in match[0].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
