"""The PyTorch network at full width, its gates multiplied in: how throttleable networks are trained."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from export.peers.torch_network import Forward, answer_with, run_files
from export.peers.ways import Answer
from export.peers.work import Work
from tnn_edge.nn.gating import GateVector, as_masks
from tnn_edge.nn.network import ThrottleableNetwork

LIBRARIES = ("numpy", "torch")


def prepare(work: Work) -> None:
    """The run is there already."""
    del work


def files(work: Work) -> Sequence[Path]:
    """The run."""
    return run_files(work)


def load(work: Work, threads: int) -> Answer:
    """The network."""
    return answer_with(work, threads, _masked)


def _masked(network: ThrottleableNetwork, gates: GateVector) -> Forward:
    return partial(network, masks=as_masks(gates, 1))
