"""Which operating points may be in memory: a budget in bytes, and who leaves when it is full."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from tnn_edge.runtime.stored_tensor import PAGE_BYTES, StoredTensor, pages

__all__ = ["Residency"]

_SESSION_BYTES = 2**20
"""Of a session besides its weights: nodes, names and small tensors."""
_DWELL_S = 60.0
"""Between two evictions, and before a point that had no room is tried again.

Each eviction loses a little memory for good (microsoft/onnxruntime#26831).
"""


class Residency:
    """A budget of memory for operating points. The lowest, number 0, is always in memory.

    Args:
        max_bytes: of weights and sessions.
        tensors: for each operating point, its tensors in the shared weight file.
        share: equal weights of several points are in memory once.
        clock_s: monotonic, in seconds.
    """

    def __init__(
        self,
        max_bytes: int,
        tensors: Sequence[Sequence[StoredTensor]],
        *,
        share: bool = True,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.max_bytes = max_bytes
        self._pages = [pages(each) for each in tensors]
        self._share = share
        self._clock_s = clock_s
        self._asked_s = [clock_s()] * len(tensors)
        self._refused_s = [clock_s() - _DWELL_S] * len(tensors)
        self._evicted_s = clock_s() - _DWELL_S

    def n_bytes(self, points: Collection[int]) -> int:
        """What points take together."""
        each = [self._pages[i] for i in points]
        n_pages = len(set().union(*each)) if self._share else sum(map(len, each))
        return n_pages * PAGE_BYTES + len(points) * _SESSION_BYTES

    def ask(self, i: int) -> bool:
        """Note that point i is wanted now; whether it is worth making room for, or was refused within a minute."""
        self._asked_s[i] = self._clock_s()
        return self._asked_s[i] - self._refused_s[i] >= _DWELL_S

    def leaving(self, i: int, resident: Collection[int]) -> list[int] | None:
        """The points that must leave so that i has room, None where i cannot come now.

        Those that were not asked for the longest leave, and none within a minute of the last that left.
        """
        left = {*resident, i}
        leaving = []
        for each in sorted(left - {0, i}, key=lambda point: self._asked_s[point]):
            if self.n_bytes(left) <= self.max_bytes:
                break
            left.remove(each)
            leaving.append(each)
        now_s = self._clock_s()
        if self.n_bytes(left) > self.max_bytes or (leaving and now_s - self._evicted_s < _DWELL_S):
            self._refused_s[i] = now_s
            return None
        if leaving:
            self._evicted_s = now_s
        return leaving
