"""Add int8 to a finished bundle: ``python -m export.int8 BUNDLE --out BUNDLE8 --data DIR``."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from export.bundle import finished_folder
from export.light import evenly_spread
from export.quantise import N_CALIBRATION, add_quantisation
from tnn_edge.bundle import Manifest, open_bundle
from tnn_edge.bundle.reading import MANIFEST
from tnn_edge.cli.program import program
from tnn_edge.errors import BundleError
from tnn_edge.nn.data_folder import read_split
from tnn_edge.nn.held_out import check_same_images
from tnn_edge.nn.image_tree import ImageTree


def main(
    bundle: Annotated[Path, typer.Argument(help="Folder of a bundle; it is left as it is.")],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle; written whole or not at all.")],
    data: Annotated[Path, typer.Option(help="Data folder that the network was trained on.")],
    calibration_images: Annotated[
        int, typer.Option(min=1, metavar="N", help="Training images to measure the ranges of activations on.")
    ] = N_CALIBRATION,
    accuracy_images: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", show_default="all", help="Held-out images to measure accuracy on."),
    ] = None,
    workers: Annotated[int, typer.Option(min=0, help="Processes that read the images of a folder ahead.")] = 4,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing bundle.")] = False,
) -> None:
    """Measure the ranges of a bundle's activations, and its accuracy with 8-bit integers, on the images it knows."""
    opened = open_bundle(bundle)
    manifest = opened.manifest
    images = read_split(
        data, "train", image_size=manifest.input.shape[-1], short_side=manifest.input.short_side, workers=workers
    )
    images.check_labels(manifest.labels)
    check_same_images(len(images), manifest.provenance.get("training"))
    training, held_out = images.hold_out(_n_held_out(bundle, manifest))
    chosen = held_out.load() if isinstance(held_out, ImageTree) else held_out
    if accuracy_images is not None:
        chosen = evenly_spread(chosen, accuracy_images)
    with finished_folder(out, overwrite=overwrite) as folder:
        for name in (MANIFEST, *manifest.files):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle / name, folder / name)
        manifest = add_quantisation(folder, training, chosen, calibration_images)
    print_quantisation(manifest)


def print_quantisation(manifest: Manifest) -> None:
    """What int8 costs, point by point."""
    spec = manifest.quantisation
    assert spec is not None
    seven, eight = spec.weights
    typer.echo(f"{manifest.name}: accuracy on {spec.n_images} held-out images, float32 and int8 (8 and 7-bit weights)")
    for point, *accuracies in zip(
        manifest.operating_points, spec.float32_accuracy, eight.accuracy, seven.accuracy, strict=True
    ):
        typer.echo(f"u {point.u:.4f}  " + "  ".join(f"{accuracy:.4f}" for accuracy in accuracies))


def _n_held_out(path: Path, manifest: Manifest) -> int:
    recipe = manifest.provenance.get("recipe")
    settings = recipe.get("data") if isinstance(recipe, dict) else None
    n = settings.get("held_out") if isinstance(settings, dict) else None
    if not isinstance(n, int) or n < 1:
        raise BundleError(f"{path}: its recipe holds out no images to measure on; train with held_out in [data]")
    return n


if __name__ == "__main__":
    program(main)
