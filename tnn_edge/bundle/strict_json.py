"""JSON that every reader reads alike, and that is not so large that reading its faults fills the memory."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Final

from tnn_edge.errors import SchemaError

__all__ = ["MAX_VALUES", "check_json"]

MAX_VALUES: Final = 100_000
"""Twelve times those of a network of 170 layers; a schema's checker keeps half a kilobyte for each that is wrong."""


def check_json(text: str, where: str) -> None:
    """Refuse what is valid JSON and yet not to be trusted; what is not valid is left for its reader to say.

    Args:
        text: JSON.
        where: the file it came from, for the error.

    Raises:
        SchemaError: an object has two values of one name, of which readers take the first or the last, or there are
            more than `MAX_VALUES` values.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
            raise SchemaError(f"{where}: two values are named {twice!r} in one object; export the bundle again")
        return fields

    try:
        values = _count(json.loads(text, object_pairs_hook=unique))
    except SchemaError:
        raise
    except (ValueError, RecursionError):
        return
    if values > MAX_VALUES:
        raise SchemaError(f"{where}: {values} values, at most {MAX_VALUES} are allowed")


def _count(value: Any) -> int:
    """Values inside a value, itself too."""
    waiting, n = [value], 0
    while waiting:
        value = waiting.pop()
        n += 1
        if isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return n
