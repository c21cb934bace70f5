"""One ONNX graph with an ``If`` for each block that operating points leave different."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from export.peers.session import open_choice
from export.peers.ways import Answer
from export.peers.work import Work

LIBRARIES = ("numpy", "onnxruntime")


def _path(work: Work) -> Path:
    return work.folder / "if_blocks.onnx"


def prepare(work: Work) -> None:
    """Write the graph."""
    import onnx

    from export.peers.if_graph import choose_block

    chains = work.block_files()
    models = {name: onnx.load(work.blocks / name) for chain in chains for name in chain.values() if name}
    onnx.save(choose_block(chains, models), _path(work))


def files(work: Work) -> Sequence[Path]:
    """The graph."""
    return [_path(work)]


def load(work: Work, threads: int) -> Answer:
    """A session."""
    return open_choice(_path(work), work, threads)
