"""A text file that only ever holds complete lines, so that a reader may follow it."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from tnn_edge.errors import InputError, TnnEdgeError

__all__ = ["LineFile"]


class LineFile:
    """Lines written one system call each, straight to the file's final name.

    A temporary name would hide a camera's log until the run ends, which may be months. A line that the disk has no room
    for is taken back. Pipes and devices (`/dev/null`) are written to as they are.

    Args:
        path: the file; made on entering `with`.
        append: add to a file that is there. A last line that a power cut left incomplete is ended first.
        overwrite: replace a file that is there.

    Raises:
        InputError: the file is there and neither was asked for, or its folder is not there.
    """

    def __init__(self, path: Path, *, append: bool = False, overwrite: bool = False) -> None:
        if append and overwrite:
            raise InputError("append and overwrite exclude each other; choose one")
        if path.is_dir():
            raise InputError(f"{path} is a folder; name a file to write to")
        if not path.parent.is_dir():
            raise InputError(f"folder {path.parent} does not exist; make it first")
        if path.is_file() and not (append or overwrite):
            raise InputError(f"{path} exists; add to it with --append, replace it with --overwrite, or name another")
        self._path = path
        self._overwrite = overwrite
        self._fd: int | None = None

    def __enter__(self) -> LineFile:
        truncate = os.O_TRUNC if self._overwrite else 0
        try:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | truncate, 0o666)
        except OSError as err:
            raise TnnEdgeError(f"{self._path} cannot be written ({err.strerror}); name another file") from err
        end = self._end()
        if end and os.pread(self._fd, 1, end - 1) != b"\n":
            os.write(self._fd, b"\n")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)

    def write(self, line: str) -> None:
        """Write one line; it must not hold a line break itself.

        Raises:
            TnnEdgeError: it could not be written, for want of room perhaps; the file ends with the line before.
        """
        assert self._fd is not None, "write inside `with`"
        data = line.encode() + b"\n"
        end = self._end()
        try:
            written = os.write(self._fd, data)
            while written < len(data):  # a full disk writes what fits, and fails the second time
                written += os.write(self._fd, data[written:])
        except BrokenPipeError:
            raise
        except OSError as err:
            if end is not None:
                os.ftruncate(self._fd, end)
            raise TnnEdgeError(f"{self._path} cannot be written ({err.strerror}); all lines before are whole") from err

    def _end(self) -> int | None:
        """Size of a regular file; None for a pipe or a device, which has none."""
        assert self._fd is not None
        return os.lseek(self._fd, 0, os.SEEK_END) if self._path.is_file() else None
