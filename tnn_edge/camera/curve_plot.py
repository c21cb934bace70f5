"""The picture of a sweep: accuracy against milliseconds on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.errors import InputError, MissingExtraError, TnnEdgeError

if TYPE_CHECKING:
    from tnn_edge.camera.sweep import Sweep, SweepPoint

__all__ = ["check_can_plot", "plot_curve"]


def check_can_plot(path: Path) -> None:
    """Find out before a long measurement whether its picture could be drawn and written.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: no file can be made there.
    """
    try:
        import matplotlib.figure  # noqa: F401 -- only whether it is there
    except ImportError as err:
        raise MissingExtraError(f"drawing the curve needs matplotlib ({err}): pip install 'tnn-edge[plot]'") from err
    partial = _partial(path)
    try:
        if not path.parent.is_dir():
            raise InputError(f"folder {path.parent} does not exist; make it first")
        if path.exists() and not path.is_file():  # a device, say, which the picture would replace
            raise InputError(f"{path} is a folder, a device or a pipe; name a PNG file")
        partial.touch()
        partial.unlink()
    except OSError as err:
        raise _unwritable(path, err) from err


def plot_curve(sweep: Sweep, path: Path) -> None:
    """Draw the sweep as PNG; a file that is there is replaced in one step, or stays as it is.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: it could not be written.
    """
    check_can_plot(path)
    # Figures and canvas without pyplot: no global state, and no window system on a device.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 5.0), layout="constrained")
    FigureCanvasAgg(figure)  # the figure keeps it
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

    partial = _partial(path)
    try:
        with partial.open("wb") as file:
            figure.savefig(file, format="png")
        partial.replace(path)
    except OSError as err:
        raise _unwritable(path, err) from err
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _unwritable(path: Path, err: OSError) -> TnnEdgeError:
    return TnnEdgeError(f"{path} cannot be written ({err.strerror or err}); name another PNG file")


def _distinct(sweep: Sweep) -> list[SweepPoint]:
    """One point per operating point, u rising."""
    first: dict[float, SweepPoint] = {}
    for point in sorted(sweep.points, key=lambda point: point.u):
        first.setdefault(point.point_u, point)
    return list(first.values())
