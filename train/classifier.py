"""Phase 1: train the data path of a throttleable classifier.

    python -m train.classifier --recipe train/recipes/NAME.toml --data DIR --out RUN [--resume]
    torchrun --nproc_per_node N -m train.classifier ...

Writes the folder RUN: description, checkpoint (after every epoch), TensorBoard events and, where the recipe asks for
them, the normalisation statistics of each operating point. Several processes share each batch of the recipe, and
train as one would.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console

from tnn_edge.cli.program import program
from train.processes import processes
from train.reading import fetch_cifar10, read_images
from train.recipe import read_recipe
from train.training import train
from train.untrained import write_untrained

__all__ = ["main", "train"]


def main(
    recipe: Annotated[Path, typer.Option(help="Recipe, a TOML file.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[
        Path | None, typer.Option(help="CIFAR-10 root, image-folder tree, or folder with zips of one.")
    ] = None,
    untrained: Annotated[
        bool,
        typer.Option("--untrained", help="Write the weights that training would start from; --data may name classes."),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(help="Start from these instead of the recipe's: IMAGENET1K_V1, a file, or none."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last finished epoch.")] = False,
    download: Annotated[bool, typer.Option("--download", help="Fetch CIFAR-10 into the data folder first.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N; CUDA where there is a GPU.")] = None,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes that read the images of a folder ahead, for each that trains.")
    ] = 4,
) -> None:
    """Train the data path of a throttleable classifier (phase 1)."""
    settings = read_recipe(recipe).with_weights(weights)
    if untrained:
        named = None if data is None else read_images(data, "train", settings.data, workers=workers)
        start = write_untrained(settings, out, named)
        typer.echo(f"done: {out} ({start})", err=True)
        return
    if data is None:
        raise typer.BadParameter("name the data folder, or pass --untrained", param_hint="--data")
    with processes(device) as group:
        console = Console(stderr=True, quiet=not group.is_main)
        if download and group.is_main:
            fetch_cifar10(data)
        group.barrier()
        images = read_images(data, "train", settings.data, workers=workers)
        used = f"{group.count} on {group.device.type}, {torch.get_num_threads()} threads"
        console.print(f"{len(images)} images of {len(images.labels)} classes; {used}")
        train(settings, images, out, resume=resume, source=data.name, processes=group)
        console.print(f"done: {out}")


if __name__ == "__main__":
    program(main)
