"""Pictures that commands draw: asked for before the work, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from tnn_edge.errors import InputError, MissingExtraError, TnnEdgeError

__all__ = ["check_can_draw", "write_picture"]


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


def write_picture(path: Path, png: bytes) -> None:
    """Write a picture; a file that is there is replaced in one step, or stays as it is.

    Raises:
        TnnEdgeError: it could not be written.
    """
    partial = _partial(path)
    try:
        partial.write_bytes(png)
        partial.replace(path)
    except OSError as err:
        raise _unwritable(path, err) from err
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _unwritable(path: Path, err: OSError) -> TnnEdgeError:
    return TnnEdgeError(f"{path} cannot be written ({err.strerror or err}); name another PNG file")
