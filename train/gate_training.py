"""Phase 2 of a throttleable classifier, and the folder that it writes."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import (
    RunDescription,
    holds_run,
    load_network,
    operating_points,
    read_checkpoint,
    read_run,
    write_checkpoint,
    write_run,
    write_statistics_table,
)
from tnn_edge.nn.components import Components
from tnn_edge.nn.controller import CONTROLLERS, POOLED, Controller
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.gate_file import GateFile, read_gate, write_gate
from tnn_edge.nn.held_out import check_same_images, n_split_images
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.nn.learned_gates import LearnedGates
from tnn_edge.nn.network import ThrottleableNetwork
from train.gate_settings import GateSettings
from train.gate_start import start
from train.gate_table import GatePoint, Measured, by_the_dial, by_the_image
from train.gate_trainer import GateEpoch, GateTrainer
from train.image_data import TrainingImages
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.reading import training_images
from train.recipe import Recipe
from train.trainer import DivergedError

__all__ = ["recipe_of", "train_gate"]

_CALIBRATION_IMAGES = 1024
"""Images over which a contextual gate's answers are clustered."""


def recipe_of(run: Path) -> Recipe:
    """The phase 1 recipe of a run.

    Raises:
        RunError: `run` is no run, or another version wrote its recipe.
    """
    try:
        return Recipe.model_validate(read_run(run).recipe)
    except ValidationError as err:
        raise RunError(f"{run}: its recipe is not one of this version; train the network again") from err


def train_gate(
    run: Path,
    data: ImageSet | ImageTree,
    settings: GateSettings,
    out: Path,
    *,
    resume: bool = False,
    source: str = "",
) -> RunDescription:
    """Train the gate of a run's network, writing the folder `out` as it goes; the network stays as it is.

    Args:
        run: gives the network, and the gate to start from if it has learned one.
        data: the training split, held-out images included.
        settings: everything else that decides the training.
        out: the folder to write, a run whose gates are learned.
        resume: go on from the last finished epoch in `out`.
        source: what the data is, for the record.

    Raises:
        RunError: `run` is incomplete, or was trained on images that are now to be held out; `out` already holds a run
            and `resume` is off, or holds another gate's; the gate to start from is of another kind; the loss is no
            longer a number.
        DatasetError: the data has other classes, or too few images, or more or fewer than `out` began with.
    """
    is_begun = holds_run(out)
    if is_begun and not resume:
        raise RunError(f"{out} already holds a run; --resume goes on with it, another --out starts anew")
    recipe, network = recipe_of(run), load_network(run)
    data.check_labels(read_run(run).labels)
    _check_held_out(run, len(data), settings)
    rest, held_out = data.hold_out(settings.held_out)
    rest = _some(rest, settings.images, settings.seed)
    controller = CONTROLLERS[settings.controller](len(Components.of(network.schedule)))
    if controller.reads_images and recipe.data.image_size < POOLED:
        raise RunError(f"a contextual gate needs images of at least {POOLED} pixels, got {recipe.data.image_size}")
    trainer = GateTrainer(settings, network, controller, by_batch=recipe.throttle.statistics == "per_point")
    trainer.check_batch(len(rest))
    left_out = len(data) - len(rest) - len(held_out)
    record = {**settings.record(), "data": source, "images": len(rest), "left_out": left_out, **describe_machine()}
    description = _describe(run, settings, record)
    if is_begun:
        progress = _resume(out, trainer, network, len(data))
    else:
        _begin(run, trainer, controller)
        progress = {"epochs": 0, "wall_minutes": 0.0}
        _write_start(run, out, trainer, network, description)
    progress = _run_epochs(trainer, training_images(rest, recipe.data, seed=recipe.seed), out, progress)
    codebook = trainer.codebook(_in_memory(_some(rest, _CALIBRATION_IMAGES, settings.seed)), recipe.data)
    write_gate(out, trainer.state(progress, codebook))
    gates = LearnedGates(components=trainer.components, controller=controller.eval(), codebook=codebook)
    network.schedule = gates
    table = measure_table(network, rest, recipe) if recipe.throttle.statistics == "per_point" else None
    if table is not None:
        write_statistics_table(out, table)
    measured = Measured(network, gates, operating_points(description, network), table, settings.costs, description)
    figures = _print_table(measured, _in_memory(held_out) if len(held_out) else None)
    description = _describe(run, settings, {**record, **progress, **figures})
    write_run(out, description)
    return description


def _check_held_out(run: Path, n_images: int, settings: GateSettings) -> None:
    """Make sure that neither the network nor the gate to start from was trained on what is to be held out.

    A split of another size is taken for other images.
    """
    training = read_run(run).training
    for record in (training, {} if settings.starts_anew else training.get("gate", {})):
        if n_split_images(record) == n_images and settings.held_out > record["held_out"]:
            raise RunError(
                f"{run} was trained on these {n_images} images but for {record['held_out']}, so {settings.held_out} "
                f"held-out ones would not be unseen; pass a --held-out of at most {record['held_out']}"
            )


def _describe(run: Path, settings: GateSettings, record: Mapping[str, Any]) -> RunDescription:
    """The run's own description, with what happened to its gate."""
    before = read_run(run)
    recipe = {**before.recipe, "data": {**before.recipe["data"], "held_out": settings.held_out}}
    return dataclasses.replace(before, recipe=recipe, training={**before.training, "gate": dict(record)})


def _begin(run: Path, trainer: GateTrainer, controller: Controller) -> None:
    """Start from the gate that the run has learned, or from a random order."""
    settings = trainer.settings
    before = None if settings.starts_anew else read_gate(run)
    if before is None:
        start(controller, trainer.components, trainer.components.row(settings.costs), settings.seed)
        return
    if before.kind != settings.controller:
        raise RunError(
            f"{run} has learned a {before.kind} gate; pass --controller {before.kind}, or --fresh to start a "
            f"{settings.controller} one anew"
        )
    controller.load_state_dict(before.controller.state_dict())


def _write_start(
    run: Path, out: Path, trainer: GateTrainer, network: ThrottleableNetwork, description: RunDescription
) -> None:
    """The folder before the first epoch; its description comes last, so that a folder that has one has all."""
    _, _, phase1 = read_checkpoint(run)
    write_gate(out, trainer.state({"epochs": 0, "wall_minutes": 0.0}))
    write_checkpoint(out, network, extra={}, progress=phase1)
    write_run(out, description)


def _resume(out: Path, trainer: GateTrainer, network: ThrottleableNetwork, n_images: int) -> dict[str, Any]:
    gate = read_gate(out)
    if gate is None:
        raise RunError(f"{out} is a run whose gates are not learned; choose another --out")
    _check_same(trainer.settings, gate, out)
    check_same_images(n_images, read_run(out).training)
    weights, own = read_checkpoint(out)[0], network.state_dict()
    if weights.keys() != own.keys() or any(not torch.equal(weights[name], own[name]) for name in own):
        raise RunError(f"{out} was started from another network; resume with its run or choose another --out")
    return trainer.restore(gate, out)


def _check_same(settings: GateSettings, gate: GateFile, out: Path) -> None:
    now = settings.record()
    differing = [
        f"{key} was {gate.settings.get(key)!r}, is {now[key]!r}" for key in now if gate.settings.get(key) != now[key]
    ]
    if differing:
        raise RunError(
            f"{out} was started with other settings; resume it with those or choose another --out "
            f"({', '.join(differing)})"
        )


def _run_epochs(trainer: GateTrainer, images: TrainingImages, out: Path, progress: dict[str, Any]) -> dict[str, Any]:
    """Train to the end, with the gate stored after every epoch; the progress of the last."""
    console = Console(stderr=True)
    with SummaryWriter(str(out / "tensorboard")) as board:
        clock = time.monotonic()
        try:
            for result in trainer.epochs(images, console, first=progress["epochs"]):
                minutes = progress["wall_minutes"] + (time.monotonic() - clock) / 60
                progress = {"epochs": result.epoch + 1, "wall_minutes": minutes}
                write_gate(out, trainer.state(progress))
                _report(result, progress, trainer.settings.epochs, board, console)
                clock = time.monotonic()
        except DivergedError as err:
            raise RunError(
                f"{err}; the gate of epoch {progress['epochs']} is kept in {out}. Try a lower --learning-rate or "
                "--lambda with another --out; where an image or the machine was at fault, mend it: --resume goes on "
                "from what is kept"
            ) from err
    return progress


def _report(
    result: GateEpoch, progress: Mapping[str, Any], n_epochs: int, board: SummaryWriter, console: Console
) -> None:
    epoch = progress["epochs"]
    board.add_scalar("loss", result.loss, epoch)
    shown = []
    for index, quarter in enumerate(result.quarters):
        if quarter is not None:
            middle = (index + 0.5) / len(result.quarters)
            for name, value in dataclasses.asdict(quarter).items():
                board.add_scalar(f"{name}/u_{middle:.3f}", value, epoch)
            shown.append(f"{middle:.3f}: {quarter.loss:.3f} {quarter.accuracy:.3f} {quarter.utilisation:.3f}")
    to_go = progress["wall_minutes"] / epoch * (n_epochs - epoch)
    console.print(
        f"epoch {epoch}/{n_epochs}  loss {result.loss:.4f}  near u: loss, accuracy, utilisation  {'  '.join(shown)}  "
        f"{to_go:.0f} min to go",
        highlight=False,
    )


def _print_table(measured: Measured, held_out: ImageSet | None) -> dict[str, Any]:
    """Print what the thresholded gates are worth; the same for the record."""
    console = Console(stderr=True)
    console.print(f"operating points, {'no' if held_out is None else len(held_out)} held-out images", highlight=False)
    points = [_shown(point, console) for point in by_the_dial(measured, held_out)]
    figures: dict[str, Any] = {"points": [dataclasses.asdict(point) for point in points]}
    if held_out is not None and measured.gates.codebook is not None:
        console.print("with a look at each image", highlight=False)
        by_image = [_shown(point, console) for point in by_the_image(measured, held_out)]
        figures["by_image"] = [dataclasses.asdict(point) for point in by_image]
    return figures


def _shown(point: GatePoint, console: Console) -> GatePoint:
    console.print(str(point), highlight=False)
    return point


def _some(data: ImageSet | ImageTree, n: int | None, seed: int) -> ImageSet | ImageTree:
    """n of the images, drawn at random, or all where there are no more."""
    if n is None or n >= len(data):
        return data
    return data.take(torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))[:n])


def _in_memory(data: ImageSet | ImageTree) -> ImageSet:
    return data.load() if isinstance(data, ImageTree) else data
