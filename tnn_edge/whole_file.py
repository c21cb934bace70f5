"""Files that are written whole or not at all, and the folders that they lie in."""

from __future__ import annotations

import os
from pathlib import Path

from tnn_edge.errors import InputError, TnnEdgeError

__all__ = ["check_writable", "make_folder", "write_whole"]


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, where it is missing.

    Raises:
        InputError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise InputError(f"folder {folder} cannot be made ({err.strerror}); name another") from err


def check_writable(path: Path, kind: str) -> None:
    """Find out before a long piece of work whether its result could be written.

    Args:
        path: of the file.
        kind: of file, for the error: `PNG file`.

    Raises:
        InputError: the folder of `path` is not there, or `path` is no regular file.
        TnnEdgeError: no file can be made there.
    """
    try:
        if not path.parent.is_dir():
            raise InputError(f"folder {path.parent} does not exist; make it first")
        if path.exists() and not path.is_file():  # a device, say, which the file would replace
            raise InputError(f"{path} is a folder, a device or a pipe; name another {kind}")
        partial = _partial(path)
        partial.touch()
        partial.unlink()
    except OSError as err:
        raise _unwritable(path, kind, err) from err


def write_whole(path: Path, data: bytes, kind: str) -> None:
    """Write a file; one that is there is replaced in one step, or stays as it is.

    Raises:
        TnnEdgeError: it could not be written.
    """
    partial = _partial(path)
    try:
        partial.write_bytes(data)
        partial.replace(path)
    except OSError as err:
        raise _unwritable(path, kind, err) from err
    finally:
        partial.unlink(missing_ok=True)


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


def _unwritable(path: Path, kind: str, err: OSError) -> TnnEdgeError:
    return TnnEdgeError(f"{path} cannot be written ({err.strerror or err}); name another {kind}")
