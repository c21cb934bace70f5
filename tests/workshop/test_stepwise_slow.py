"""Ten thousand random gate vectors, run block by block, against the masked PyTorch network."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from export.bundle import export_bundle
from tests.workshop.conftest import allowed, as_bits, colours, random_gates, small_recipe
from tests.workshop.test_networks import SIZES
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.nn import GateVector, ThrottleableNetwork
from tnn_edge.nn.checkpoint import load_network, read_run, read_statistics_table, use_point
from tnn_edge.nn.gating import nearest_point
from tnn_edge.runtime.vectors.stepwise import Stepwise
from train.recipe import Recipe
from train.untrained import write_untrained

Array = npt.NDArray[np.float32]

TOLERANCE = 1e-4  # of the largest logit
BATCH = 100
CIFAR: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "cifar resnext_w": (
        "resnext_w",
        {
            "channels": [64, 128, 256], "blocks": [2, 2, 2], "component_channels": [8, 8, 16], "n_components": 16,
            "stem_stride": 2,
        },
    ),
    "cifar resnet_d": ("resnet_d", {"channels": [16, 32, 64, 128], "blocks": [1, 3, 3, 3]}),
}  # fmt: skip
CASES = [
    *(pytest.param(name, statistics, 32, 10_000, id=f"{name} {statistics}")
      for name, statistics in (("cifar resnext_w", "shared"), ("cifar resnet_d", "per_point"))),
    *(pytest.param(name, statistics, 8, 300, id=f"{name} {statistics}")
      for name in SIZES for statistics in ("shared", "per_point")),
]  # fmt: skip


def untrained(name: str, statistics: str, image_size: int, folder: Path) -> tuple[Path, Bundle]:
    """A run of random weights and normalisation, and its bundle."""
    architecture, sizes = {**SIZES, **CIFAR}[name]
    fields = small_recipe("resnet_d", draw="uniform").model_dump()
    fields["name"] = "random"
    fields["network"] = {"architecture": architecture, "sizes": {**sizes, "n_classes": 4}}
    fields["throttle"] |= {"statistics": statistics, "statistics_images": 64}
    fields["data"] |= {"image_size": image_size}
    write_untrained(Recipe.model_validate(fields), folder / "run", colours(64, size=image_size))
    export_bundle(folder / "run", folder / "bundle")
    return folder / "run", open_bundle(folder / "bundle")


def drawn_vectors(network: ThrottleableNetwork, n: int) -> list[GateVector]:
    """Different vectors, as far as there are so many."""
    generator = torch.Generator().manual_seed(0)
    every = 2 ** sum(network.schedule.sizes.values())
    found: dict[tuple[tuple[int, ...], ...], GateVector] = {}
    for _ in range(3 * n):
        gates = allowed(random_gates(network.schedule.sizes, generator), network.schedule)
        found[tuple(gates.values())] = gates
        if len(found) == min(n, every):
            break
    distinct = list(found.values())
    return [distinct[i % len(distinct)] for i in range(n)]


@torch.no_grad()
def masked(run: Path, network: ThrottleableNetwork, vectors: Sequence[GateVector], images: Tensor) -> Array:
    """Answer i is to image i masked by vector i, with the statistics of the vector's operating point."""
    description, table = read_run(run), read_statistics_table(run, network)
    points = [gates for _, gates in network.schedule.operating_points(description.recipe["seed"])]
    costs = network.component_costs(description.image_size)
    of_point: dict[int, list[int]] = defaultdict(list)
    for i, gates in enumerate(vectors):
        of_point[nearest_point(gates, points, costs)].append(i)
    answers: Array = np.zeros((len(vectors), network.n_classes), np.float32)
    for point, members in of_point.items():
        use_point(network, table, point)
        for start in range(0, len(members), BATCH):
            rows = members[start : start + BATCH]
            masks = {name: torch.tensor([vectors[i][name] for i in rows], dtype=torch.float32) for name in vectors[0]}
            answers[rows] = network(images[rows], masks).numpy()
    return answers


@pytest.mark.slow
@pytest.mark.parametrize(("name", "statistics", "image_size", "n"), CASES)
def test_random_vectors_block_by_block_equal_the_masked_network(
    name: str, statistics: str, image_size: int, n: int, tmp_path: Path
) -> None:
    run, bundle = untrained(name, statistics, image_size, tmp_path)
    network = load_network(run)
    vectors = drawn_vectors(network, n)
    images = torch.randn(n, 3, image_size, image_size, generator=torch.Generator().manual_seed(1))
    expected = masked(run, network, vectors, images)
    stepwise = Stepwise(bundle)
    answers = np.concatenate(
        [stepwise.run(x[None], as_bits(gates)) for x, gates in zip(images.numpy(), vectors, strict=True)]
    )
    error = np.abs(answers - expected).max(axis=1)
    assert (error <= TOLERANCE * np.abs(expected).max(axis=1)).all()
    second, first = np.sort(expected, axis=1)[:, -2:].T
    decided = first - second > 2 * error
    assert decided.mean() > 0.99
    assert (answers.argmax(axis=1) == expected.argmax(axis=1))[decided].all()
    assert len(set(map(tuple, np.round(expected[: len(vectors) // 2], 3).tolist()))) > n // 4  # they do differ
