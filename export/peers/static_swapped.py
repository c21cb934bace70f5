"""A static export for each operating point, one at a time: a change of u closes one session and opens another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.peers.session import BoundSession, open_session
from export.peers.ways import Answer, FloatArray
from export.peers.work import Work

LIBRARIES = ("numpy", "onnxruntime")


class _Swapped:
    def __init__(self, work: Work, threads: int) -> None:
        self._work = work
        self._threads = threads
        self._point = work.points[0]
        self._session: BoundSession | None = self._opened()

    def _opened(self) -> BoundSession:
        return BoundSession(open_session(self._work.static(self._point), self._threads))

    def __call__(self, x: FloatArray, u: float) -> FloatArray:
        point = self._work.point_at(u)
        if self._session is None or point != self._point:
            self._session = None  # before the next one takes its memory
            self._point = point
            self._session = self._opened()
        return self._session(x)


def prepare(work: Work) -> None:
    """The static exports are there already."""
    del work


def files(work: Work) -> Sequence[Path]:
    """A file for each operating point."""
    return [work.static(point) for point in work.distinct_points]


def load(work: Work, threads: int) -> Answer:
    """The largest."""
    return _Swapped(work, threads)
