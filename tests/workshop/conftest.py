"""Fixtures that need torch: a small task that can be learned, trained runs of both architectures, their bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from export.bundle import export_bundle
from tnn_edge.nn import GateVector, Schedule, ThrottleableNetwork
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.norm import BatchNorm
from train.classifier import train
from train.recipe import Recipe

SIZE = 16
LABELS = ("blue", "green", "grey", "red")
COLOURS = ((0, 0, 1), (0, 1, 0), (1, 1, 1), (1, 0, 0))

ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "resnext_w": {"channels": [8, 16], "blocks": [1, 1], "component_channels": [2, 3], "n_components": 4},
    "resnet_d": {"channels": [8, 16], "blocks": [2, 1]},
}


def colours(n: int, seed: int = 0, size: int = SIZE) -> ImageSet:
    """A faint colour behind strong noise: class i has the colour COLOURS[i]."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.arange(n) % len(LABELS)
    tint = torch.tensor(COLOURS)[targets].view(n, 3, 1, 1) * 60
    noise = torch.randint(0, 192, (n, 3, size, size), generator=generator)
    names = tuple(f"train/{LABELS[t]}/{i:04d}.png" for i, t in enumerate(targets.tolist()))
    return ImageSet(images=(tint + noise).to(torch.uint8), targets=targets, labels=LABELS, names=names)


def small_recipe(
    architecture: str = "resnext_w",
    *,
    draw: str | Mapping[str, Any] = "sandwich",
    statistics: str = "per_point",
    points: int | None = None,
    optimiser: Mapping[str, Any] | None = None,
    learning_rate: Mapping[str, Any] | None = None,
    **training: Any,
) -> Recipe:
    """A recipe that learns `colours` in a second or two; a draw may be named by its kind, or be ``uniform``."""
    if isinstance(draw, str):
        draw = {"kind": "per_example", "u": {"kind": "uniform"}} if draw == "uniform" else {"kind": draw}
    return Recipe.model_validate(
        {
            "name": f"colours_{architecture}",
            "seed": 3,
            "network": {"architecture": architecture, "sizes": {**ARCHITECTURES[architecture], "n_classes": 4}},
            "throttle": {"draw": draw, "statistics": statistics, "statistics_images": 128, "points": points},
            "data": {
                "image_size": SIZE, "mean": [0.4, 0.4, 0.4], "std": [0.25, 0.25, 0.25],
                "held_out": 32, "crop_padding": 1,
            },
            "training": {"epochs": 3, "batch_size": 32, "clip_norm": 5.0, "precision": "fp32", **training},
            "optimiser": optimiser or {"kind": "sgd"},
            "learning_rate": learning_rate or {"kind": "warmup_cosine", "highest": 0.1, "warmup_epochs": 0.5},
        }
    )  # fmt: skip


def as_toml(recipe: Recipe) -> str:
    """A recipe as a file would say it."""
    return "\n".join(f"{key} = {_inline(value)}" for key, value in recipe.model_dump(mode="json").items())


def _inline(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{k} = {_inline(v)}" for k, v in value.items() if v is not None) + " }"
    return json.dumps(value)


def randomise_norms(network: ThrottleableNetwork, seed: int = 0) -> ThrottleableNetwork:
    """Give every normalisation statistics, scale and shift that a test cannot pass by accident."""
    generator = torch.Generator().manual_seed(seed)
    for norm in (module for module in network.modules() if isinstance(module, BatchNorm)):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.weight.data.uniform_(0.5, 1.5, generator=generator)
        norm.bias.data.uniform_(-0.5, 0.5, generator=generator)
        norm.running_mean.uniform_(-0.5, 0.5, generator=generator)
        norm.running_var.uniform_(0.5, 2.0, generator=generator)
    return network.eval()


def random_gates(sizes: Mapping[str, int], generator: torch.Generator) -> GateVector:
    """Each component on or off for itself; one module in four entirely off."""
    return {
        name: tuple(int(bit) for bit in torch.rand(n, generator=generator) < torch.rand((), generator=generator) * 1.33)
        if torch.rand((), generator=generator) > 0.25
        else (0,) * n
        for name, n in sizes.items()
    }


def allowed(gates: GateVector, schedule: Schedule) -> GateVector:
    """The vector with as many first components on as each module always has."""
    return {
        name: tuple(int(bit or (i < schedule.always_on(name) and not any(bits))) for i, bit in enumerate(bits))
        for name, bits in gates.items()
    }


def as_bits(gates: GateVector) -> dict[str, str]:
    """A gate vector as a manifest writes it."""
    return {name: "".join(map(str, bits)) for name, bits in gates.items()}


def relative_error(answer: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference as a share of the largest expected value."""
    return float((answer - expected).abs().max() / expected.abs().max())


@dataclass(frozen=True)
class Exported:
    """A trained run and its bundle."""

    run: Path
    bundle: Path
    recipe: Recipe


def _run_and_bundle(folder: Path, recipe: Recipe) -> Exported:
    data = colours(256)
    train(recipe, data, folder / "run", source="colours")
    _, held_out = data.hold_out(recipe.data.held_out)
    export_bundle(folder / "run", folder / "bundle", data=held_out, licence="Apache-2.0")
    return Exported(folder / "run", folder / "bundle", recipe)


@pytest.fixture(scope="session")
def resnext_w(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Widthwise, sandwich, statistics per point. Read only."""
    return _run_and_bundle(tmp_path_factory.mktemp("resnext_w"), small_recipe("resnext_w"))


@pytest.fixture(scope="session")
def resnet_d(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Depthwise, sandwich, statistics per point. Read only."""
    return _run_and_bundle(tmp_path_factory.mktemp("resnet_d"), small_recipe("resnet_d"))


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Widthwise, uniform u, statistics shared. Read only."""
    recipe = small_recipe("resnext_w", draw="uniform", statistics="shared")
    return _run_and_bundle(tmp_path_factory.mktemp("shared"), recipe)


BUNDLES: Sequence[str] = ("resnext_w", "resnet_d", "shared")


@pytest.fixture(scope="session", params=BUNDLES)
def exported(request: pytest.FixtureRequest) -> Exported:
    """Each of the bundles in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Exported)
    return found
