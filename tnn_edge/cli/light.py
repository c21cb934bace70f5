"""``tnn-edge bundle light``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import BundleArgument, JsonOption, print_json, print_table
from tnn_edge.errors import BundleError
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from tnn_edge.bundle import LightTable

__all__ = ["light", "print_light"]


def light(
    bundle: BundleArgument,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it to a PNG file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show accuracy and calibration error by light, as they were measured when the bundle was exported."""
    from tnn_edge.bundle import open_bundle
    from tnn_edge.bundle.light_plot import draw_light_png
    from tnn_edge.picture_file import check_can_draw, write_picture

    manifest = open_bundle(bundle).manifest
    table = manifest.light
    if table is None:
        raise BundleError(
            f"{bundle} holds no accuracy by light; export it again with held-out images: "
            "python -m export RUN --out BUNDLE --data DIR"
        )
    if png is not None:
        check_can_draw(png)
    dial = [point.u for point in manifest.operating_points]
    if as_json:
        print_json({"u": dial, **table.model_dump(mode="json")})
    else:
        print_light(table, dial, name=manifest.name)
    if png is not None:
        write_picture(png, draw_light_png(table, dial, name=manifest.name))
        typer.echo(f"drawn: {printable(str(png))}", err=as_json)


def print_light(table: LightTable, dial: list[float], *, name: str) -> None:
    """Two tables, accuracy and calibration error: a row for each light level, a column for some operating points.

    Args:
        table: what was measured.
        dial: lowest u of each operating point.
        name: of the network.
    """
    from tnn_edge.bundle.light import spread_points

    shown = spread_points(len(dial))
    headings = ["lux", *(f"u from {dial[i]:.2f}" for i in shown)]
    for what, values in (("accuracy", table.accuracy), ("calibration error", table.calibration_error)):
        rows = [[f"{lux:g}", *(f"{values[i][k]:.4f}" for i in shown)] for k, lux in enumerate(table.lux)]
        print_table(headings, rows, title=f"{name}: {what} by light on the scene, {table.n_images} held-out images")
    errors = [row[-1] for row in table.calibration_error]
    typer.echo(
        f"Calibration error at {table.lux[-1]:g} lux: {errors[0]:.4f} at u {dial[0]:.2f}, {errors[-1]:.4f} at u = 1."
    )
    numbers = ", ".join(f"{key} {value:g}" for key, value in table.sensor.items())
    typer.echo(f"Sensor model: {printable(numbers)}.")
    if len(shown) < len(dial):
        typer.echo(f"{len(shown)} of {len(dial)} operating points; 'tnn-edge bundle light B --json' prints all.")
