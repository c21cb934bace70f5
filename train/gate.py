"""Phase 2: train the gate of a throttleable classifier, its data path fixed.

    python -m train.gate RUN --method reinforce|concrete --controller blind|contextual --data DIR --out RUN2
        [--penalty dist|hinge] [--power 1|2] [--lambda 10] [--costs uniform|macs|FILE] [--export BUNDLE] [--resume]

Writes the folder RUN2: the run's network with the learned gate (after every epoch), TensorBoard events and, where the
recipe asks for them, the normalisation statistics of each operating point. Where RUN has a learned gate of its own, the
training goes on from it: so a gate is adapted to new data, on the device if need be, and exported again.
"""

from __future__ import annotations

import os
import subprocess
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import train
from tnn_edge.cli.program import program
from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import load_network
from tnn_edge.nn.gate_file import read_gate
from train.cost_weights import cost_weights
from train.gate_settings import GateSettings
from train.gate_training import recipe_of, train_gate
from train.penalty import Penalty
from train.reading import read_images

__all__ = ["main"]


class Method(StrEnum):
    """Estimator of the gradient."""

    REINFORCE = "reinforce"
    CONCRETE = "concrete"


class Kind(StrEnum):
    """What the controller reads."""

    BLIND = "blind"
    CONTEXTUAL = "contextual"


class Distance(StrEnum):
    """How utilisation is compared with u."""

    DIST = "dist"
    HINGE = "hinge"


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a training run; its network is not changed.")],
    data: Annotated[Path, typer.Option(help="CIFAR-10 root, image-folder tree, or folder with zips of one.")],
    out: Annotated[Path, typer.Option(help="Folder of the run with the learned gate.")],
    method: Annotated[Method, typer.Option(help="Estimator of the gradient.")] = Method.REINFORCE,
    controller: Annotated[Kind, typer.Option(help="Reads u alone, or also a small image.")] = Kind.BLIND,
    penalty: Annotated[Distance, typer.Option(help="|c - u|^p, or max(0, c - u)^p.")] = Distance.DIST,
    power: Annotated[int, typer.Option(min=1, max=2, help="p.")] = 2,
    lambda_: Annotated[float, typer.Option("--lambda", help="Weight of the penalty, at least 0.")] = 10.0,
    costs: Annotated[
        str, typer.Option(metavar="uniform|macs|FILE", help="Weights of utilisation; a JSON FILE names them by gate.")
    ] = "uniform",
    epochs: Annotated[int, typer.Option(min=1)] = 150,
    batch_size: Annotated[int, typer.Option(min=1)] = 128,
    learning_rate: Annotated[float, typer.Option(help="Of Adam (reinforce) or SGD (concrete), constant.")] = 1e-3,
    images: Annotated[int | None, typer.Option(min=1, show_default="all", help="Training images, at random.")] = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=0, show_default="as in RUN", help="Training images kept to measure on, here and in export."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn.")] = 0,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start anew even where RUN has a learned gate.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    export: Annotated[Path | None, typer.Option(metavar="BUNDLE", help="Export the result to this folder.")] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read the images of a folder ahead.")] = 4,
) -> None:
    """Train the gate of a throttleable classifier (phase 2)."""
    weighed = Penalty(kind=penalty.value, power=2 if power == 2 else 1, lambda_=lambda_)
    if export is not None and os.path.lexists(export):
        raise RunError(f"{export} exists; choose another --export")
    recipe = recipe_of(run)
    settings = GateSettings(
        method=method.value,
        controller=controller.value,
        penalty=weighed,
        costs=cost_weights(costs, load_network(run), recipe.data.image_size),
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        images=images,
        held_out=recipe.data.held_out if held_out is None else held_out,
        starts_anew=fresh or read_gate(run) is None,
        seed=seed,
    )
    split = read_images(data, "train", recipe.data, workers=workers)
    typer.echo(f"{len(split)} images of {len(split.labels)} classes", err=True)
    train_gate(run, split, settings, out, resume=resume, source=data.name)
    typer.echo(f"done: {out}", err=True)
    if export is not None:
        _export(out, export, data if settings.held_out else None)


def _export(run: Path, bundle: Path, data: Path | None) -> None:
    """Run the exporter, which the workshop's training does not import."""
    command = [sys.executable, "-m", "export", str(run.resolve()), "--out", str(bundle.resolve())]
    if data is not None:
        command += ["--data", str(data.resolve())]
    checkout = Path(str(train.__file__)).parents[1]
    if subprocess.run(command, check=False, cwd=checkout).returncode:  # noqa: S603 (our own program)
        raise RunError(f"{run} is trained, but its export failed; mend what it says above and run {' '.join(command)}")


if __name__ == "__main__":
    program(main)
