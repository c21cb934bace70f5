"""The picture of a sweep: accuracy against milliseconds on this machine."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.picture_file import check_can_draw, new_figure, write_picture

if TYPE_CHECKING:
    from tnn_edge.camera.sweep import Sweep, SweepPoint

__all__ = ["plot_curve"]


def plot_curve(sweep: Sweep, path: Path) -> None:
    """Draw the sweep as PNG; a file that is there is replaced in one step, or stays as it is.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: it could not be written.
    """
    check_can_draw(path)
    figure = new_figure(8.0, 5.0)
    axes = figure.subplots()
    points = _distinct(sweep)
    latency_ms = [point.latency_p50_ms for point in points]
    percent = [100 * point.accuracy for point in points]
    axes.plot(latency_ms, percent, marker="o", color="tab:blue")
    for i, point in enumerate(points):
        offset = (0, 7) if i % 2 == 0 else (0, -14)  # neighbours are close: write above and below in turn
        axes.annotate(
            f"{point.point_u:.3g}",
            (latency_ms[i], percent[i]),
            offset,
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )
    axes.set_xlabel("median latency per image [ms]; at each point the lowest throttle u that selects it")
    axes.set_ylabel(f"accuracy [%], {sweep.n_images} images")
    axes.set_xlim(left=0)
    axes.margins(y=0.12)
    axes.grid(alpha=0.3)
    where = "{cpu}, device {device}, threads {threads}".format_map(sweep.machine)
    axes.set_title(f"{sweep.bundle}\n{where}", fontsize=10)

    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_picture(path, buffer.getvalue())


def _distinct(sweep: Sweep) -> list[SweepPoint]:
    """One point per operating point, u rising."""
    first: dict[float, SweepPoint] = {}
    for point in sorted(sweep.points, key=lambda point: point.u):
        first.setdefault(point.point_u, point)
    return list(first.values())
