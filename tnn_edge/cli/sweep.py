"""`tnn-edge sweep`: accuracy and latency over the throttle, on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import (
    DeviceChoice,
    DeviceOption,
    JsonOption,
    PrecisionChoice,
    PrecisionOption,
    ThreadsOption,
    in_precision,
    print_json,
    print_table,
)
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from tnn_edge.camera import Sweep

__all__ = ["sweep"]


def sweep(
    images: Annotated[Path, typer.Argument(metavar="IMAGES", help="Labelled images: a tree <class>/*.jpg.")],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Bundle folder.")],
    u: Annotated[
        list[float] | None, typer.Option(metavar="U", help="Throttle, repeatable; by default 0, 1/16, ..., 1.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Use so many images, spread over the classes.")] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw accuracy against milliseconds.")] = None,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    as_json: JsonOption = False,
) -> None:
    """Measure the throttle curve on this machine: accuracy, MACs and milliseconds at each u.

    Latency is the engine's, without decoding and preprocessing; all operating points are timed in turn on each image.
    """
    import sys

    import tnn_edge
    from tnn_edge.camera import ImageFolder, sweep_throttle
    from tnn_edge.camera.curve_plot import plot_curve
    from tnn_edge.camera.live_display import LiveDisplay, one_line
    from tnn_edge.camera.sweep import DEFAULT_THROTTLES
    from tnn_edge.picture_file import check_can_draw

    if png is not None:
        check_can_draw(png)
    settings = tnn_edge.SessionSettings(threads=threads)
    with (
        ImageFolder(images) as folder,
        tnn_edge.load(bundle, device.value, settings=settings, precision=precision.value) as engine,
        LiveDisplay(enabled=sys.stderr.isatty()) as display,
    ):
        result = sweep_throttle(
            engine,
            folder,
            throttles=u or DEFAULT_THROTTLES,
            limit=limit,
            on_progress=lambda done, total: display.show(lambda: one_line(f"measuring, round {done}/{total}")),
        )
    if result.n_failed:
        typer.echo(f"warning: {result.n_failed} images do not decode and are left out", err=True)
    if as_json:
        print_json(result.as_json())
    else:
        _print_table(result)
    if png is not None:  # after the numbers, which must not be lost to a picture
        plot_curve(result, png)
        typer.echo(f"drawn: {printable(str(png))}", err=as_json)


def _print_table(result: Sweep) -> None:
    rows = [
        [
            f"{point.u:.4f}",
            f"{point.utilisation:.3f}",
            f"{100 * point.accuracy:.2f} %",
            f"{point.confidence:.3f}",
            f"{point.macs / 1e6:.2f}",
            f"{point.latency_p50_ms:.3f}",
            f"{point.latency_p95_ms:.3f}",
        ]
        for point in result.points
    ]
    machine = result.machine
    print_table(
        ["u", "utilisation", "accuracy", "confidence", "MMAC", "p50 ms", "p95 ms"],
        rows,
        title=f"{in_precision(result.bundle, machine['precision'])}, {result.n_images} images on "
        f"{machine['processor']}, {machine['threads']} thread, {machine['device']}",
    )
