"""One object for each file in a process, however many use it, for as long as one of them does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar
from weakref import WeakValueDictionary

__all__ = ["OnePerFile"]

T = TypeVar("T")


class OnePerFile(Generic[T]):
    """Objects by the file that they are made from. Safe to ask from several threads.

    Args:
        make: an object from a path; what it raises, `of` raises.
    """

    def __init__(self, make: Callable[[Path], T]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._made: WeakValueDictionary[tuple[int, int, int], T] = WeakValueDictionary()

    def of(self, path: Path) -> T:
        """The object of a file, whatever its path: the one that somebody uses, or a new one."""
        status = path.stat()
        identity = (status.st_dev, status.st_ino, status.st_mtime_ns)
        with self._lock:
            found = self._made.get(identity)
            if found is None:
                found = self._made[identity] = self._make(path)
            return found
