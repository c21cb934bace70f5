"""torch.compile of the sliced network, once for each operating point, when it is first asked for."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch

from export.peers.torch_network import Forward, answer_with, run_files
from export.peers.ways import Answer
from export.peers.work import Work, files_below
from export.sub_network import SubNetwork
from tnn_edge.errors import InputError, MissingExtraError
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork

LIBRARIES = ("numpy", "torch")
_MOST_VARIANTS = 8


def _cache(work: Work) -> Path:
    return work.folder / "compiled"


def prepare(work: Work) -> None:
    """The run is there already."""
    del work


def files(work: Work) -> Sequence[Path]:
    """The run, and the code that the last process compiled from it."""
    return [*run_files(work), *files_below(_cache(work))]


def load(work: Work, threads: int) -> Answer:
    """The network; it is compiled at first use.

    Raises:
        MissingExtraError: there is no C++ compiler.
        InputError: the dial has more operating points than compiled variants of a function are kept.
    """
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise MissingExtraError(f"torch.compile needs a C++ compiler; {compiler} is not there")
    if len(work.distinct_points) > _MOST_VARIANTS:
        raise InputError(f"torch.compile keeps {_MOST_VARIANTS} variants of a function; name no more settings of u")
    shutil.rmtree(_cache(work), ignore_errors=True)  # what another process compiled would hide how long it takes
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(_cache(work))
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # else a pool of processes stays, whose memory nobody counts
    return answer_with(work, threads, _compiled)


def _compiled(network: ThrottleableNetwork, gates: GateVector) -> Forward:
    return torch.compile(SubNetwork(network, gates).eval(), fullgraph=True)
