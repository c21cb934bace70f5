"""Phase 1 of a throttleable classifier, and the folder that it writes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console
from torch.utils.tensorboard import SummaryWriter

from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import (
    RunDescription,
    has_checkpoint,
    holds_run,
    read_run,
    write_run,
    write_statistics_table,
)
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.gate_file import GATE_FILE
from tnn_edge.nn.held_out import check_same_images
from tnn_edge.nn.image_tree import ImageTree
from train.description import describe
from train.image_data import TrainingImages
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.processes import ALONE, Processes
from train.reading import training_images
from train.recipe import Recipe
from train.start import check_classes, load_start_weights, random_network
from train.trainer import DivergedError, EpochResult, Trainer

__all__ = ["train"]


def train(
    recipe: Recipe,
    data: ImageSet | ImageTree,
    run: Path,
    *,
    resume: bool = False,
    source: str = "",
    processes: Processes = ALONE,
) -> RunDescription:
    """Train, writing the folder `run` as it goes.

    Args:
        recipe: everything that decides the training, but the data.
        data: the training split, held-out images included.
        run: the folder to write; every process must see it.
        resume: go on from the last finished epoch in `run`.
        source: what the data is, for the record.
        processes: those that train together, all of which call this.

    Raises:
        RunError: `run` already holds a run and `resume` is off, or holds one of another recipe; there is no such
            network, or no such weights; the loss is no longer a number.
        DatasetError: the data has another number of classes, too few images, or more or fewer than `run` began with.
    """
    is_begun = holds_run(run)
    if is_begun and not resume:
        raise RunError(f"{run} already holds a run; --resume goes on with it, another --out starts anew")
    network = random_network(recipe)
    check_classes(network, data.labels)
    console = Console(stderr=True, quiet=not processes.is_main)
    trainer = Trainer(recipe, network, processes)
    progress: dict[str, Any] = {"epochs": 0, "wall_minutes": 0.0, "cpu_minutes": 0.0}
    if is_begun:
        _check_same(run, recipe, data)
    rest, held_out = data.hold_out(recipe.data.held_out)
    trainer.check_batch(len(rest))
    if is_begun and has_checkpoint(run):
        progress |= trainer.restore(run)
    else:  # what was interrupted in its first epoch starts anew
        kept = load_start_weights(network, recipe)
        if kept:
            weights = recipe.network.weights
            console.print(f"{' and '.join(kept)} start at random: {weights} has another number of classes")
    record = {"data": source, "images": len(rest), "held_out": len(held_out), "weights": recipe.network.weights}
    record |= {"processes": processes.count, "device": str(processes.device), **describe_machine()}
    processes.barrier()  # none looks for a run that another has just begun
    if processes.is_main:
        write_run(run, describe(recipe, data.labels, record))
    images = training_images(rest, recipe.data, seed=recipe.seed)
    progress = _run_epochs(trainer, images, held_out, run, progress, console)
    description = describe(recipe, data.labels, {**record, **progress})
    if processes.is_main:
        if recipe.throttle.statistics == "per_point":
            write_statistics_table(run, measure_table(trainer.network, rest, recipe))
        write_run(run, description)
    processes.barrier()  # none ends, and with it the group, while the main process measures
    return description


def _check_same(run: Path, recipe: Recipe, data: ImageSet | ImageTree) -> None:
    """Make sure that a run which goes on is the one that was begun."""
    if (run / GATE_FILE).exists():
        raise RunError(f"{run} is the run of a learned gate; train.gate --resume goes on with it")
    before = read_run(run)
    data.check_labels(before.labels)
    other = ", ".join(_differences(before.recipe, recipe.model_dump(mode="json")))
    if other:
        raise RunError(
            f"{run} was started with another recipe; resume it with that one or choose another --out ({other})"
        )
    check_same_images(len(data), before.training)


def _differences(then: Any, now: Any, key: str = "") -> Iterator[str]:
    """Each key whose value changed, with both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for name in sorted({*then, *now}):
            yield from _differences(then.get(name), now.get(name), f"{key}.{name}" if key else name)
    elif then != now:
        yield f"{key} was {then!r}, is {now!r}"


def _run_epochs(
    trainer: Trainer,
    images: TrainingImages,
    held_out: ImageSet | ImageTree,
    run: Path,
    progress: dict[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Train to the end, with a checkpoint after every epoch; the progress of the last."""
    n_epochs = trainer.recipe.training.epochs
    with SummaryWriter(str(run / "tensorboard")) if trainer.processes.is_main else nullcontext() as board:
        wall, cpu = time.monotonic(), time.process_time()
        try:
            for result in trainer.epochs(images, console, first=progress["epochs"]):
                progress = {
                    "epochs": result.epoch + 1,
                    "wall_minutes": progress["wall_minutes"] + (time.monotonic() - wall) / 60,
                    "cpu_minutes": progress["cpu_minutes"] + (time.process_time() - cpu) / 60,
                }
                if board is not None:
                    trainer.save(run, progress)
                    _report(_figures(trainer, result, held_out), progress, n_epochs, board, console)
                wall, cpu = time.monotonic(), time.process_time()
        except DivergedError as err:
            raise RunError(f"{err}; {_way_out(run, progress['epochs'])}") from err
    return progress


def _figures(trainer: Trainer, result: EpochResult, held_out: ImageSet | ImageTree) -> dict[str, float]:
    """Loss and accuracy of an epoch; the held-out images are judged at u = 1."""
    figures = {"loss": result.loss, "accuracy/train": result.accuracy}
    if len(held_out):
        network, data = trainer.network, trainer.recipe.data
        judged = evaluate(network, network.schedule.vector(1.0), held_out, mean=data.mean, std=data.std)
        figures["accuracy/held_out"] = judged.accuracy
    return figures


def _report(
    figures: Mapping[str, float], progress: Mapping[str, Any], n_epochs: int, board: SummaryWriter, console: Console
) -> None:
    epoch = progress["epochs"]
    for name, value in figures.items():
        board.add_scalar(name, value, epoch)
    shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
    to_go = progress["wall_minutes"] / epoch * (n_epochs - epoch)
    console.print(f"epoch {epoch}/{n_epochs}  {shown}  {to_go:.0f} min to go", highlight=False)


def _way_out(run: Path, n_finished: int) -> str:
    """What is left of a training that diverged, and what to do about it."""
    kept, start = f"{run} holds no checkpoint yet", ""
    if n_finished:
        checkpoint = run / "checkpoint.safetensors"
        kept, start = f"{checkpoint} keeps epoch {n_finished}", f", from the start or with --weights {checkpoint}"
    return (
        f"{kept}. Try a lower learning rate, a longer warm-up, a smaller clip_norm or precision = 'fp32' in another "
        f"--out{start}; where an image or the machine was at fault, mend it: --resume goes on from what is kept"
    )
