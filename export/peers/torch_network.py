"""The PyTorch network of a run, with the statistics of the operating point that it was turned to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from export.peers.ways import Answer, FloatArray
from export.peers.work import Work, files_below
from tnn_edge.nn.checkpoint import load_network, operating_points, read_run, read_statistics_table, use_point
from tnn_edge.nn.gating import GateVector
from tnn_edge.nn.network import ThrottleableNetwork

__all__ = ["Forward", "answer_with", "run_files"]

Forward = Callable[[Tensor], Tensor]


def run_files(work: Work) -> list[Path]:
    """What rebuilds the network: the description and the tensors of its run."""
    return [path for path in files_below(work.run) if path.name == "run.json" or path.suffix == ".safetensors"]


def answer_with(work: Work, threads: int, forward: Callable[[ThrottleableNetwork, GateVector], Forward]) -> Answer:
    """Answer by a function of the network for each operating point.

    Args:
        work: what to load.
        threads: that compute one inference.
        forward: network and gate vector -> image to logits.
    """
    torch.set_num_threads(threads)
    network = load_network(work.run)
    table = read_statistics_table(work.run, network)
    points = operating_points(read_run(work.run), network)
    forwards = {point: forward(network, points[point][1]) for point in work.distinct_points}
    turned_to: int | None = None

    def answer(x: FloatArray, u: float) -> FloatArray:
        nonlocal turned_to
        point = work.point_at(u)
        with torch.no_grad():
            if point != turned_to:
                use_point(network, table, point)
                turned_to = point
            logits: FloatArray = forwards[point](torch.from_numpy(x)).numpy()
        return logits

    return answer
