"""Pictures that commands draw: asked for before the work, written whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.errors import MissingExtraError
from tnn_edge.whole_file import check_writable, write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_can_draw", "new_figure", "write_picture"]

_KIND = "PNG file"


def new_figure(width: float, height: float, *, dpi: int = 100) -> Figure:
    """An empty drawing without pyplot: no global state, and no window system on a device.

    Args:
        width: in inches.
        height: in inches.
        dpi: pixels an inch of a PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as err:
        raise MissingExtraError(f"drawing needs matplotlib ({err}): pip install 'tnn-edge[plot]'") from err
    figure = Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    FigureCanvasAgg(figure)  # the figure keeps it
    return figure


def check_can_draw(path: Path) -> None:
    """Find out before a long measurement whether its picture could be drawn and written.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: no file can be made there.
    """
    new_figure(1.0, 1.0)
    check_writable(path, _KIND)


def write_picture(path: Path, png: bytes) -> None:
    """Write a picture; a file that is there is replaced in one step, or stays as it is.

    Raises:
        TnnEdgeError: it could not be written.
    """
    write_whole(path, png, _KIND)
