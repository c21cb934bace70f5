"""A static export for each operating point, all of them loaded at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.peers.session import BoundSession, open_session
from export.peers.ways import Answer
from export.peers.work import Work

LIBRARIES = ("numpy", "onnxruntime")


def prepare(work: Work) -> None:
    """The static exports are there already."""
    del work


def files(work: Work) -> Sequence[Path]:
    """A file for each operating point."""
    return [work.static(point) for point in work.distinct_points]


def load(work: Work, threads: int) -> Answer:
    """A session for each operating point."""
    sessions = {p: BoundSession(open_session(work.static(p), threads)) for p in work.distinct_points}
    return lambda x, u: sessions[work.point_at(u)](x)
