"""Fixtures that need torch: a small task that can be learned, trained runs of both architectures, their bundles."""

from __future__ import annotations

import fcntl
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.onnx._internal.exporter._registration import ONNXRegistry

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


@pytest.fixture(autouse=True, scope="session")
def exporter_reads_its_library_once() -> Iterator[None]:
    """`torch.onnx.export` parses the source of its 500 functions anew for every block, longer than the rest takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


@dataclass(frozen=True)
class Exported:
    """A trained run and its bundle, which is made when a test asks for it first. Read only."""

    folder: Path
    recipe: Recipe

    @property
    def run(self) -> Path:
        return _made_once(self.folder / "run", self._train)

    @property
    def bundle(self) -> Path:
        return _made_once(self.folder / "bundle", self._export)

    def _train(self, out: Path) -> None:
        train(self.recipe, colours(256), out, source="colours")

    def _export(self, out: Path) -> None:
        _, held_out = colours(256).hold_out(self.recipe.data.held_out)
        export_bundle(self.run, out, data=held_out, licence="Apache-2.0")


def _made_once(final: Path, make: Callable[[Path], None]) -> Path:
    """A folder that the first process of the tests to ask for it makes, while the others wait."""
    if not final.exists():
        with final.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not final.exists():
                unfinished = final.with_suffix(".unfinished") / final.name
                shutil.rmtree(unfinished.parent, ignore_errors=True)
                make(unfinished)
                unfinished.rename(final)
    return final


@pytest.fixture(scope="session")
def for_all_processes(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    """A folder that all processes of the tests see."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if hasattr(request.config, "workerinput") else own


def _exported(parent: Path, name: str, recipe: Recipe) -> Exported:
    (parent / name).mkdir(exist_ok=True)
    exported = Exported(parent / name, recipe)
    assert exported.run.is_dir()  # here, where no test sees what training prints
    return exported


@pytest.fixture(scope="session")
def resnext_w(for_all_processes: Path) -> Exported:
    """Widthwise, sandwich, statistics per point."""
    return _exported(for_all_processes, "resnext_w", small_recipe("resnext_w"))


@pytest.fixture(scope="session")
def resnet_d(for_all_processes: Path) -> Exported:
    """Depthwise, sandwich, statistics per point."""
    return _exported(for_all_processes, "resnet_d", small_recipe("resnet_d"))


@pytest.fixture(scope="session")
def shared(for_all_processes: Path) -> Exported:
    """Widthwise, uniform u, statistics shared."""
    return _exported(for_all_processes, "shared", small_recipe("resnext_w", draw="uniform", statistics="shared"))


BUNDLES: Sequence[str] = ("resnext_w", "resnet_d", "shared")


@pytest.fixture(scope="session", params=BUNDLES)
def exported(request: pytest.FixtureRequest) -> Exported:
    """Each of the bundles in turn."""
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Exported)
    return found
