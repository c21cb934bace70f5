"""One ONNX graph with an ``If`` over the networks of all operating points, each with weights of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.peers.session import open_choice
from export.peers.ways import Answer
from export.peers.work import Work

LIBRARIES = ("numpy", "onnxruntime")


def _path(work: Work) -> Path:
    return work.folder / "if_networks.onnx"


def prepare(work: Work) -> None:
    """Write the graph."""
    import onnx

    from export.peers.if_graph import choose_network

    onnx.save(
        choose_network([onnx.load(work.static(point)) for point in work.distinct_points], share_weights=False),
        _path(work),
    )


def files(work: Work) -> Sequence[Path]:
    """The graph."""
    return [_path(work)]


def load(work: Work, threads: int) -> Answer:
    """A session."""
    return open_choice(_path(work), work, threads)
