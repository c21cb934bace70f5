"""Phase 1: train the data path of a throttleable classifier.

    python -m train.classifier --recipe train/recipes/NAME.toml --data DIR --out RUN [--resume]

Writes the folder RUN: description, checkpoint (after every epoch), TensorBoard events and, where the recipe asks for
them, the normalisation statistics of each operating point.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch.utils.tensorboard import SummaryWriter

from tnn_edge.cli.program import program
from tnn_edge.errors import DatasetError, RunError
from tnn_edge.nn.checkpoint import (
    RunDescription,
    has_checkpoint,
    read_checkpoint,
    read_run,
    write_checkpoint,
    write_run,
    write_statistics_table,
)
from tnn_edge.nn.dataset import ImageSet, load_images
from tnn_edge.nn.evaluation import evaluate
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.registry import build_network
from train.batches import batches
from train.description import describe
from train.draws import DRAWS, StepResult
from train.machine import describe_machine
from train.point_statistics import measure_table
from train.recipe import OptimiserSettings, Recipe, read_recipe
from train.untrained import write_untrained

__all__ = ["learning_rate", "main", "train"]

console = Console(stderr=True)


def learning_rate(step: int, steps_per_epoch: int, settings: OptimiserSettings) -> float:
    """Linear rise over the warm-up, then a half cosine that reaches zero after the last step."""
    warmup = settings.warmup_epochs * steps_per_epoch
    if step < warmup:
        return settings.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1.0, settings.epochs * steps_per_epoch - warmup)
    return settings.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def _optimiser(network: ThrottleableNetwork, settings: OptimiserSettings) -> torch.optim.SGD:
    parameters = list(network.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=settings.learning_rate,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
    )


def _uses_bf16(precision: str) -> bool:
    if precision != "auto":
        return precision == "bf16"
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags  # elsewhere oneDNN emulates bf16, slower than fp32


def _momentum(network: ThrottleableNetwork, optimiser: torch.optim.SGD) -> dict[str, torch.Tensor]:
    names = {id(p): name for name, p in network.named_parameters()}
    return {
        f"momentum.{names[id(p)]}": state["momentum_buffer"]
        for p, state in optimiser.state.items()
        if state.get("momentum_buffer") is not None
    }


def _resume(
    run: Path, recipe: Recipe, network: ThrottleableNetwork, optimiser: torch.optim.SGD, generator: torch.Generator
) -> dict[str, Any]:
    if read_run(run).recipe != recipe.model_dump(mode="json"):
        raise RunError(f"{run} was started with another recipe; resume it with that one or choose another --out")
    if not has_checkpoint(run):
        return {}  # interrupted in its first epoch: it starts anew
    weights, extra, progress = read_checkpoint(run)
    network.load_state_dict(weights)
    for name, parameter in network.named_parameters():
        if f"momentum.{name}" in extra:
            optimiser.state[parameter]["momentum_buffer"] = extra[f"momentum.{name}"]
    generator.set_state(extra["generator"])
    return progress


def _epochs(
    network: ThrottleableNetwork,
    optimiser: torch.optim.SGD,
    data: ImageSet,
    recipe: Recipe,
    generator: torch.Generator,
    first_epoch: int,
) -> Iterator[tuple[int, list[StepResult]]]:
    settings = recipe.optimiser
    draw = DRAWS[recipe.throttle.draw]
    steps = len(data) // settings.batch_size
    if not steps:
        raise DatasetError(f"{len(data)} training images do not fill one batch of {settings.batch_size}")
    autocast = _uses_bf16(settings.precision)
    columns = (TextColumn("epoch {task.fields[epoch]}"), BarColumn(), MofNCompleteColumn(), TextColumn("steps"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
        task = bar.add_task("train", total=settings.epochs * steps, completed=first_epoch * steps, epoch=first_epoch)
        for epoch in range(first_epoch, settings.epochs):
            network.train()
            results: list[StepResult] = []
            for i, (images, targets) in enumerate(batches(data, recipe.data, settings.batch_size, generator)):
                for group in optimiser.param_groups:
                    group["lr"] = learning_rate(epoch * steps + i, steps, settings)
                optimiser.zero_grad()
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                    results.append(draw(network, images, targets, recipe, generator))
                torch.nn.utils.clip_grad_norm_(network.parameters(), settings.clip_norm)
                optimiser.step()
                bar.update(task, advance=1, epoch=epoch + 1)
            yield epoch, results


def _figures(
    network: ThrottleableNetwork, results: Sequence[StepResult], held_out: ImageSet, recipe: Recipe
) -> dict[str, float]:
    """Loss and accuracy of an epoch; the held-out images are judged at u = 1."""
    figures = {
        "loss": sum(r.loss for r in results) / len(results),
        "accuracy/train": sum(r.n_right for r in results) / (len(results) * recipe.optimiser.batch_size),
    }
    if len(held_out):
        full = network.schedule.vector(1.0)
        judged = evaluate(network, full, held_out, mean=recipe.data.mean, std=recipe.data.std)
        figures["accuracy/held_out"] = judged.accuracy
    return figures


def train(recipe: Recipe, data: ImageSet, run: Path, *, resume: bool = False, source: str = "") -> RunDescription:
    """Train, writing the folder `run` as it goes.

    Args:
        recipe: everything that decides the training, but the data.
        data: the training split, held-out images included.
        run: the folder to write.
        resume: go on from the last finished epoch in `run`.
        source: what the data is, for the record.

    Raises:
        RunError: `run` already holds a run and `resume` is off, or holds one of another recipe.
        DatasetError: the data has another number of classes, or too few images.
    """
    if not resume and (run / "run.json").exists():
        raise RunError(f"{run} already holds a run; --resume goes on with it, another --out starts anew")
    torch.manual_seed(recipe.seed)
    generator = torch.Generator().manual_seed(recipe.seed)
    network = build_network(recipe.network.architecture, recipe.network.sizes)
    n_classes = network.head.classifier.out_features
    if n_classes != len(data.labels):
        raise DatasetError(f"the recipe's network has {n_classes} classes, the data {len(data.labels)}")
    network = network.to(memory_format=torch.channels_last)
    optimiser = _optimiser(network, recipe.optimiser)
    progress: dict[str, Any] = {"epochs": 0, "wall_minutes": 0.0, "cpu_minutes": 0.0}
    if resume and (run / "run.json").exists():
        progress |= _resume(run, recipe, network, optimiser, generator)
    rest, held_out = data.hold_out(recipe.data.held_out)
    record = {"data": source, "images": len(rest), "held_out": len(held_out), **describe_machine()}
    write_run(run, describe(recipe, data, record))
    wall, cpu = time.monotonic(), time.process_time()
    with SummaryWriter(str(run / "tensorboard")) as board:
        for epoch, results in _epochs(network, optimiser, rest, recipe, generator, progress["epochs"]):
            progress["epochs"] = epoch + 1
            progress["wall_minutes"] += (time.monotonic() - wall) / 60
            progress["cpu_minutes"] += (time.process_time() - cpu) / 60
            write_checkpoint(
                run,
                network,
                extra={**_momentum(network, optimiser), "generator": generator.get_state()},
                progress=progress,
            )
            figures = _figures(network, results, held_out, recipe)
            for name, value in figures.items():
                board.add_scalar(name, value, epoch + 1)
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
            eta = progress["wall_minutes"] / progress["epochs"] * (recipe.optimiser.epochs - progress["epochs"])
            console.print(f"epoch {epoch + 1}/{recipe.optimiser.epochs}  {shown}  {eta:.0f} min to go", highlight=False)
            wall, cpu = time.monotonic(), time.process_time()
    if recipe.throttle.statistics == "per_point":
        console.print("measuring the normalisation statistics of each operating point")
        write_statistics_table(run, measure_table(network, rest, recipe))
    description = describe(recipe, data, {**record, **progress})
    write_run(run, description)
    return description


def main(
    recipe: Annotated[Path, typer.Option(help="Recipe, a TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[
        Path | None, typer.Option(help="CIFAR-10 root, image-folder tree, or folder with zips of one.")
    ] = None,
    untrained: Annotated[
        bool, typer.Option("--untrained", help="Write random weights, from the recipe's seed; needs no data.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 into the data folder first.")] = False,
) -> None:
    """Train the data path of a throttleable classifier (phase 1)."""
    settings = read_recipe(recipe)
    if untrained:
        write_untrained(settings, out)
        console.print(f"done: {out} (random weights)")
        return
    if data is None:
        raise typer.BadParameter("name the data folder, or pass --untrained", param_hint="--data")
    if download:
        from torchvision.datasets import CIFAR10

        CIFAR10(str(data), train=True, download=True)
    images = load_images(data, "train", image_size=settings.data.image_size)
    console.print(f"{len(images)} images of {len(images.labels)} classes; {torch.get_num_threads()} threads")
    train(settings, images, out, resume=resume, source=data.name)
    console.print(f"done: {out}")


if __name__ == "__main__":
    program(main)
