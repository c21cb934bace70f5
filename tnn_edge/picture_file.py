"""Pictures that commands draw: asked for before the work, written whole or not at all."""

from __future__ import annotations

from pathlib import Path

from tnn_edge.errors import MissingExtraError
from tnn_edge.whole_file import check_writable, write_whole

__all__ = ["check_can_draw", "write_picture"]

_KIND = "PNG file"


def check_can_draw(path: Path) -> None:
    """Find out before a long measurement whether its picture could be drawn and written.

    Raises:
        MissingExtraError: matplotlib is not installed.
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: no file can be made there.
    """
    try:
        import matplotlib.figure  # noqa: F401 -- only whether it is there
    except ImportError as err:
        raise MissingExtraError(f"drawing needs matplotlib ({err}): pip install 'tnn-edge[plot]'") from err
    check_writable(path, _KIND)


def write_picture(path: Path, png: bytes) -> None:
    """Write a picture; a file that is there is replaced in one step, or stays as it is.

    Raises:
        TnnEdgeError: it could not be written.
    """
    write_whole(path, png, _KIND)
