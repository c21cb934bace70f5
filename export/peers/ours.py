"""This project's engine: every operating point of the bundle resident, u chosen anew at each call."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import tnn_edge
from export.peers.ways import Answer
from export.peers.work import Work, files_below
from tnn_edge.runtime import install

LIBRARIES = ("numpy", "onnxruntime", "tnn_edge.runtime")


def prepare(work: Work) -> None:
    """Install the bundle, which a device does once."""
    from tnn_edge.bundle import open_bundle

    install(open_bundle(work.bundle), "cpu", work.plans)


def files(work: Work) -> Sequence[Path]:
    """The bundle and its plans."""
    return [*files_below(work.bundle), *files_below(work.plans)]


def load(work: Work, threads: int) -> Answer:
    """The engine."""
    settings = tnn_edge.SessionSettings(threads=threads)
    engine = tnn_edge.load(work.bundle, "cpu", settings=settings, cache=work.plans)
    return lambda x, u: engine.run(x, u).logits
