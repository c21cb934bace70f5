"""Export a training run as a bundle: ``python -m export RUN --out BUNDLE --data DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from export.bundle import export_bundle
from export.int8 import print_quantisation
from export.quantise import N_CALIBRATION
from tnn_edge.cli.light import print_light
from tnn_edge.cli.program import program
from tnn_edge.errors import RunError
from tnn_edge.nn.checkpoint import read_run
from tnn_edge.nn.data_folder import read_split
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.held_out import check_same_images
from tnn_edge.nn.image_tree import ImageTree


def main(
    run: Annotated[Path, typer.Argument(help="Folder of a training run.")],
    out: Annotated[Path, typer.Option(help="Folder of the bundle; written whole or not at all.")],
    data: Annotated[
        Path | None, typer.Option(help="Data folder; its held-out training images give golden inputs and accuracy.")
    ] = None,
    light_images: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="N",
            show_default="all",
            help="Held-out images, spread evenly, for accuracy by light; 0 leaves that table away.",
        ),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="Calibrate on training images, so that the bundle can run in int8 too.")
    ] = False,
    calibration_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training images to calibrate on.")
    ] = N_CALIBRATION,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read the images of a folder ahead.")] = 4,
    licence: Annotated[str, typer.Option(help="Licence of the weights.")] = "unknown",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Export a trained network as per-block ONNX subgraphs with slice map, golden outputs and model card."""
    if (light_images or int8) and data is None:
        raise typer.BadParameter("name the data folder that holds the images", param_hint="--data")
    held_out: ImageSet | None = None
    training: ImageSet | ImageTree | None = None
    if data is not None:
        description = read_run(run)
        settings = description.recipe.get("data")
        n_held_out = settings.get("held_out") if isinstance(settings, dict) else None
        if not isinstance(n_held_out, int) or n_held_out < 1:
            raise RunError(f"{run}: its recipe holds out no images to measure on; leave --data away")
        images = read_split(
            data, "train", image_size=description.image_size, short_side=description.short_side, workers=workers
        )
        images.check_labels(description.labels)
        check_same_images(len(images), description.training)
        training, chosen = images.hold_out(n_held_out)
        held_out = chosen.load() if isinstance(chosen, ImageTree) else chosen
    manifest = export_bundle(
        run,
        out,
        data=held_out,
        light_images=light_images,
        training=training if int8 else None,
        n_calibration=calibration_images,
        licence=licence,
        overwrite=overwrite,
    )
    size = sum(file.bytes for file in manifest.files.values())
    typer.echo(f"{out}: {len(manifest.blocks)} blocks, {len(manifest.operating_points)} points, {size / 1e6:.1f} MB")
    if manifest.light is not None:
        print_light(manifest.light, [point.u for point in manifest.operating_points], name=manifest.name)
    if manifest.quantisation is not None:
        print_quantisation(manifest)


if __name__ == "__main__":
    program(main)
