"""Reading a file of arrays: every size is checked before anything is unpacked."""

from __future__ import annotations

import math
import os
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import BundleError

__all__ = ["FloatArray", "read_npz"]

FloatArray = npt.NDArray[np.float32]

_MAX_BYTES = 200 * 2**20  # one image of the largest size that a manifest may name
_MAX_DIRECTORY_BYTES = 2**20
_PART_BYTES = 2**20
_LOCATOR_64_BYTES = 20  # a directory of 64 bits has its sizes elsewhere
_END = struct.Struct("<4s4H2LH")  # of an archive: signature, four counts, size and place of its directory, comment
_ENCRYPTED = 0x1
_VERSION = (1, 0)  # whose headers have 64 kB at most; those of 2.0 have 4 GB, for tables of many columns
_DAMAGED = (  # what zipfile, zlib and NumPy's header parser raise on bytes that are none of theirs
    ArithmeticError, EOFError, LookupError, MemoryError, OSError, RuntimeError, SyntaxError, TypeError, ValueError,
    struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: Path) -> dict[str, FloatArray]:
    """The float32 arrays of an ``.npz``, by name. ``numpy.load`` believes the sizes and types that a header claims.

    Raises:
        BundleError: no archive of float32 arrays, encrypted, packed in another way than stored or deflated, sizes
            that contradict each other, or more than 200 MB.
    """
    try:
        _check_directory(path)
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(members)
            arrays = {}
            for member in members:
                with archive.open(member) as file:
                    arrays[member.filename.removesuffix(".npy")] = _read_array(file, member)
            return arrays
    except _DAMAGED as err:
        reason = str(err).partition("\n")[0] or type(err).__name__
        raise BundleError(f"{path}: cannot be read ({reason}); copy the bundle again") from err


def _check_directory(path: Path) -> None:
    """Of an archive: `zipfile` reads all of it before it tells how many members there are."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LOCATOR_64_BYTES - _END.size))
        tail = file.read()
    end = tail[-_END.size :]
    if len(end) < _END.size:
        raise ValueError("not an archive")
    signature, *_, directory_bytes, _, comment_bytes = _END.unpack(end)
    if signature != b"PK\5\6" or comment_bytes or tail.startswith(b"PK\6\7"):
        raise ValueError("not an archive, or one with a comment or of 64 bits")
    if size > _MAX_BYTES or directory_bytes > _MAX_DIRECTORY_BYTES:
        raise ValueError(
            f"{size} bytes and a directory of {directory_bytes}, at most {_MAX_BYTES} and {_MAX_DIRECTORY_BYTES}"
        )


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len({member.filename for member in members}) < len(members):
        raise ValueError("two arrays have one name")
    if (total := sum(member.file_size for member in members)) > _MAX_BYTES:
        raise ValueError(f"{total} bytes unpacked, at most {_MAX_BYTES} are allowed")
    for member in members:
        if member.flag_bits & _ENCRYPTED:
            raise ValueError(f"{member.filename} is encrypted")
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{member.filename} is packed by method {member.compress_type}, not stored or deflated")


def _read_array(file: IO[bytes], member: zipfile.ZipInfo) -> FloatArray:
    version = np.lib.format.read_magic(file)
    if version != _VERSION:
        raise ValueError(f"{member.filename} has a header of version {version}, not {_VERSION}")
    shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.dtype("<f4"):
        raise ValueError(f"{member.filename} holds {dtype}, not float32")
    n_bytes = member.file_size - file.tell()
    if any(n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != n_bytes:
        raise ValueError(f"{member.filename} holds {n_bytes} bytes, not those of shape {list(shape)}")
    values = np.empty(math.prod(shape), dtype)
    rest = values.data.cast("B")
    while part := file.read(min(len(rest), _PART_BYTES)):  # one read of all would hold it twice
        rest[: len(part)] = part
        rest = rest[len(part) :]
    if len(rest):
        raise ValueError(f"{member.filename} is cut short")
    return np.asarray(values.reshape(shape, order="F" if is_fortran else "C"), order="C")
