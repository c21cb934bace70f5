"""What learned gates are worth, measured on images that no training saw."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tnn_edge.nn.checkpoint import RunDescription, use_point
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gating import GateVector, utilisation
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.learned_gates import N_POINTS, LearnedGates
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.norm import Statistics

__all__ = ["GatePoint", "Measured", "by_the_dial", "by_the_image"]

_BATCH = 250


@dataclass(frozen=True, kw_only=True)
class GatePoint:
    """The gates at one setting of the dial.

    Attributes:
        u: the setting.
        utilisation: cost-weighted share of active components, the mean where images differ.
        macs: multiply-adds of an image, the mean where images differ.
        accuracy: share of right answers, None without images.
    """

    u: float
    utilisation: float
    macs: float
    accuracy: float | None = None

    def __str__(self) -> str:
        shown = "" if self.accuracy is None else f"  accuracy {self.accuracy:.4f}"
        return f"u {self.u:.4f}  utilisation {self.utilisation:.3f}{shown}"


@dataclass(frozen=True, eq=False)
class Measured:
    """A network with learned gates, and how to judge it.

    Attributes:
        network: in evaluation mode.
        gates: its learned gates.
        points: their operating points.
        statistics: of each operating point; None where all share the network's.
        costs: of each component, by which utilisation is weighted.
        description: gives mean and deviation of the input.
    """

    network: ThrottleableNetwork
    gates: LearnedGates
    points: Sequence[tuple[float, GateVector]]
    statistics: Sequence[Statistics] | None
    costs: Mapping[str, Sequence[float]]
    description: RunDescription


def by_the_dial(measured: Measured, images: ImageSet | None) -> Iterator[GatePoint]:
    """Every operating point over all images."""
    for index, (u, vector) in enumerate(measured.points):
        accuracy = None
        if images is not None:
            use_point(measured.network, measured.statistics, index)
            mean, std = measured.description.mean, measured.description.std
            accuracy = evaluate(measured.network, vector, images, mean=mean, std=std).accuracy
        yield GatePoint(
            u=u,
            utilisation=utilisation(vector, measured.costs),
            macs=measured.network.macs(vector, measured.description.image_size),
            accuracy=accuracy,
        )


@torch.no_grad()
def by_the_image(measured: Measured, images: ImageSet | ImageTree) -> Iterator[GatePoint]:
    """Settings 0, 1/16, ..., 1 with the code that a contextual gate chooses for each image."""
    codes = [vector for _, vector in measured.points]
    dial = [i / (N_POINTS - 1) for i in range(N_POINTS)]
    chosen = torch.cat(
        [
            torch.stack([measured.gates.choose(torch.full((len(x),), u), x) for u in dial])
            for x, _ in images.batches(_BATCH, mean=measured.description.mean, std=measured.description.std)
        ],
        dim=1,
    )  # [settings, N]
    is_right = torch.zeros(len(codes), len(images), dtype=torch.bool)
    for index in chosen.unique().tolist():
        mine = (chosen == index).any(dim=0).nonzero()[:, 0]
        is_right[index, mine] = _right_answers(measured, index, images.take(mine))
    size = measured.description.image_size
    spent = torch.tensor(
        [(utilisation(code, measured.costs), measured.network.macs(code, size)) for code in codes], dtype=torch.float64
    )
    for u, row in zip(dial, chosen, strict=True):
        accuracy = float(is_right[row, torch.arange(len(images))].double().mean())
        used, macs = spent[row].mean(dim=0).tolist()
        yield GatePoint(u=u, utilisation=used, macs=macs, accuracy=accuracy)


def _right_answers(measured: Measured, index: int, images: ImageSet | ImageTree) -> Tensor:
    """Whether the answer to each image at one operating point is right, shape [N]."""
    use_point(measured.network, measured.statistics, index)
    _, gates = measured.points[index]
    batches = images.batches(_BATCH, mean=measured.description.mean, std=measured.description.std)
    return torch.cat([measured.network.sliced(x, gates).argmax(dim=1) == targets for x, targets in batches])
