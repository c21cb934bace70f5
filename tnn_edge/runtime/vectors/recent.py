"""A dictionary that forgets what was not asked for the longest once it is full."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

__all__ = ["Recent"]

Key = TypeVar("Key", bound=Hashable)
Kept = TypeVar("Kept")


class Recent(Generic[Key, Kept]):
    """Values of a given size in bytes, the least recently used out first.

    Args:
        max_bytes: of all values together; one that is larger is kept until the next comes.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = 0
        self._kept: OrderedDict[Key, tuple[Kept, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Key) -> Kept | None:
        found = self._kept.get(key)
        if found is None:
            return None
        self._kept.move_to_end(key)
        return found[0]

    def put(self, key: Key, value: Kept, n_bytes: int) -> None:
        """Keep a value under a key that is not there yet."""
        self._kept[key] = value, n_bytes
        self.n_bytes += n_bytes
        while self.n_bytes > self.max_bytes and len(self._kept) > 1:
            _, (_, freed) = self._kept.popitem(last=False)
            self.n_bytes -= freed

    def clear(self) -> None:
        self._kept.clear()
        self.n_bytes = 0
