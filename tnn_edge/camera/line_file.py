"""A text file that only ever holds complete lines, so that a reader may follow it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from types import TracebackType

from tnn_edge.errors import InputError, TnnEdgeError

__all__ = ["LineFile"]


class LineFile:
    """Lines written one system call each, straight to the file's final name.

    A temporary name would hide a camera's log until the run ends, which may be months. A line that the disk has no room
    for is taken back. Pipes and devices (`/dev/null`) are written to as they are; a named pipe must have its reader
    already, since waiting for one would look like hanging.

    Args:
        path: the file; made on entering `with`.
        append: add to a file that is there. A last line that a power cut left incomplete is ended first.
        overwrite: replace a file that is there.

    Raises:
        InputError: the file is there and neither was asked for, or its folder is not there.
        TnnEdgeError: it cannot be written, or is a named pipe that nobody reads.
    """

    def __init__(self, path: Path, *, append: bool = False, overwrite: bool = False) -> None:
        if append and overwrite:
            raise InputError("append and overwrite exclude each other; choose one")
        self._path = path
        self._overwrite = overwrite
        self._fd: int | None = None
        self._is_regular = True
        try:
            self._check(may_exist=append or overwrite)
        except OSError as err:
            raise self._unwritable(err) from err

    def _check(self, *, may_exist: bool) -> None:
        path, mode = self._path, _mode(self._path)
        if stat.S_ISDIR(mode):
            raise InputError(f"{path} is a folder; name a file to write to")
        if not stat.S_ISDIR(_mode(path.parent)):
            raise InputError(f"folder {path.parent} does not exist; make it first")
        if stat.S_ISREG(mode) and not may_exist:
            raise InputError(f"{path} exists; add to it with --append, replace it with --overwrite, or name another")

    def __enter__(self) -> LineFile:
        try:
            self._fd = self._open()
        except OSError as err:
            if err.errno == errno.ENXIO:
                raise TnnEdgeError(f"nobody reads {self._path}; start its reader first, or name a file") from err
            raise self._unwritable(err) from err
        self._is_regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
        end = self._end()
        if end and os.pread(self._fd, 1, end - 1) != b"\n":
            self.write("")
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
            BrokenPipeError: a pipe's reader has left.
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

    def _open(self) -> int:
        mode = _mode(self._path)
        if mode and not stat.S_ISREG(mode):
            # Write only: a named pipe that its writer may also read never notices that its reader has left.
            # Non-blocking: without a reader the pipe refuses to open.
            fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
            os.set_blocking(fd, True)
            return fd
        truncate = os.O_TRUNC if self._overwrite else 0
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | truncate, 0o666)

    def _unwritable(self, err: OSError) -> TnnEdgeError:
        return TnnEdgeError(f"{self._path} cannot be written ({err.strerror}); name another file")

    def _end(self) -> int | None:
        """Size of a regular file; None for a pipe or a device, which has none."""
        assert self._fd is not None
        return os.lseek(self._fd, 0, os.SEEK_END) if self._is_regular else None


def _mode(path: Path) -> int:
    """What is there; 0 for nothing. Not `is_file()`: whether that raises where one may not look hangs on Python."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0
