"""The folder of the plans: can it be written, and is there room?"""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.rooms import load_room
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_cache"]

_MB = 10**6
_LEAST_MB = 50  # the plans of a network of 10 MB with some points
_ENOUGH_MB = 500  # those of a ResNeXt-50 with statistics of each point: 403 MB
_ELSEWHERE = "export TNN_EDGE_CACHE=/a/folder/of/yours"
_TRIAL_BYTES = 65536


def check_cache(where: Surroundings) -> Iterator[Finding]:
    """Write to the folder, or to the nearest one above it that exists. Nothing is left there."""
    folder = (where.cache or _default_folder()).absolute()
    try:
        str(folder).encode()
    except UnicodeEncodeError:
        cause = "ONNX Runtime writes to no path that is not UTF-8"
        yield _fault(ascii(str(folder)), cause=cause, mend=_ELSEWHERE)
        return
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    seen = str(folder) if there == folder else f"{folder}, to be made in {there}"
    try:
        _write_to(there)
    except OSError as err:
        cause, mend = _reason(err, folder, there)
        yield _fault(f"{seen}: {err.strerror}", cause=cause, mend=mend)
        return
    free_mb = shutil.disk_usage(there).free // _MB
    seen = f"{seen}: can be written, {free_mb} MB free"
    room = f"df -h {shlex.quote(str(there))}, then remove what is not needed; or {_ELSEWHERE}"
    if free_mb < _LEAST_MB:
        yield _fault(seen, cause=f"the plans of a small network take {_LEAST_MB} MB", mend=room)
    elif free_mb < _ENOUGH_MB:
        yield note("cache", seen, cause=f"the plans of a large network take {_ENOUGH_MB} MB", mend=room)
    else:
        yield ok("cache", seen)


def _default_folder() -> Path:
    load_room("tnn_edge.runtime")
    from tnn_edge.runtime.installing.plans import cache_folder

    return cache_folder()


def _write_to(folder: Path) -> None:
    """Write a file without a name, which is gone with its descriptor. Permissions alone do not tell of a full disk."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_TRIAL_BYTES))
        file.flush()
        os.fsync(file.fileno())


def _reason(err: OSError, folder: Path, there: Path) -> tuple[str, str]:
    """Cause and cure of a write to `there`, where `folder` is or would be made, that failed."""
    quoted = shlex.quote(str(there))
    if err.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the disk or the user's share of it is full", f"df -h {quoted}; df -i {quoted}; or {_ELSEWHERE}"
    if err.errno == errno.EROFS:
        disk = next(path for path in (there.resolve(), *there.resolve().parents) if path.is_mount())
        mend = f"sudo mount -o remount,rw {shlex.quote(str(disk))}; or {_ELSEWHERE}"
        return "the file system is mounted to be read only", mend
    if err.errno == errno.EFBIG:
        return "the process may not write files of that size", f"ulimit -f unlimited; or {_ELSEWHERE}"
    if err.errno in {errno.EACCES, errno.EPERM}:
        owner = f"it belongs to uid {there.lstat().st_uid}, and this is uid {os.geteuid()}"
        own = shlex.quote(str(folder))
        # What lies above the folder may be the system's: it stays its owner's.
        mine = f"chown -R $(id -u) {own}" if there == folder else f"mkdir -p {own} && sudo chown $(id -u) {own}"
        return f"no permission: {owner}", f"sudo {mine}; or {_ELSEWHERE}"
    if err.errno in {errno.ENOTDIR, errno.ELOOP} or not there.is_dir():
        is_movable = there.is_file() or there.is_symlink()
        return f"{there} is no folder", (f"mv {quoted} {quoted}.away; or " if is_movable else "") + _ELSEWHERE
    return "the file system takes no new file there", _ELSEWHERE


def _fault(seen: str, *, cause: str, mend: str) -> Finding:
    return fault("cache", FaultCode.CACHE, seen, cause=cause, mend=mend)
