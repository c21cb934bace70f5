"""Cameras: the device files, whether this user may open them, and OpenCV, which reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from tnn_edge.doctor.apart import Broken, try_apart
from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.import_failures import reason_of
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_cameras", "check_opencv"]

_OPENCV = (
    "opencv-python-headless",
    "opencv-python",
    "opencv-contrib-python-headless",
    "opencv-contrib-python",
)
_INSTALL_OPENCV = "pip install 'tnn-edge[camera]'"
_LOG_IN = "log out and in again, or restart the service"


def check_cameras(where: Surroundings) -> Iterator[Finding]:
    """The cameras that the kernel shows, and whether this process may open them."""
    devices = _devices(where)
    if not devices:
        cause = "there is no /dev/video*: no camera is plugged in, its driver is not loaded, or a container hides it"
        yield note(
            "cameras",
            "none",
            cause=cause,
            mend="lsusb must list it, sudo modprobe uvcvideo loads the driver; in a container: docker run --device "
            "/dev/video0",
        )
        return
    shut = [device for device in devices if not _may_open(device)]
    if shut:
        cause, mend = _reason(shut[0], where)
        yield fault("cameras", FaultCode.CAMERA, f"no permission for {_names(shut, where)}", cause=cause, mend=mend)
    if may_open := [device for device in devices if device not in shut]:
        yield ok("cameras", _names(may_open, where))


def check_opencv(where: Surroundings) -> Iterator[Finding]:
    """OpenCV, which cameras and videos need and image folders do not."""
    path = list(where.path)
    wheels = {name: found.version for name in _OPENCV for found in metadata.distributions(name=name, path=path)}
    if not wheels:
        cause = "cameras and videos cannot be read; image folders can"
        yield note("opencv", "not installed", cause=cause, mend=_INSTALL_OPENCV)
        return
    names = " ".join(wheels)
    seen = ", ".join(f"{name} {version}" for name, version in wheels.items())
    tried = try_apart("tnn_edge.doctor.opencv_probe", where)
    if isinstance(tried, Broken):
        reason = reason_of(tried, next(iter(wheels)))
        seen = f"{seen}, which cannot be imported: {tried.how}"
        yield fault("opencv", FaultCode.CAMERA, seen, cause=reason.cause, mend=reason.mend)
    elif len(wheels) > 1:
        mend = f"pip uninstall -y {names} && {_INSTALL_OPENCV}"
        yield note("opencv", seen, cause="they overwrite each other's files", mend=mend)
    else:
        yield ok("opencv", seen)


def _devices(where: Surroundings) -> list[Path]:
    devices = [path for path in (where.root / "dev").glob("video*") if path.name[5:].isdecimal()]
    return sorted(devices, key=lambda path: int(path.name[5:]))


def _may_open(device: Path) -> bool:
    """Asks the kernel, for an access control list may grant what mode and group do not."""
    return os.access(device, os.R_OK | os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _names(devices: list[Path], where: Surroundings) -> str:
    """As `tnn-edge run` takes them, with what the driver calls them."""
    called = {path: where.text(f"sys/class/video4linux/{path.name}/name") for path in devices}
    return ", ".join(f"/dev/{path.name}" + (f" ({name})" if name else "") for path, name in called.items())


def _reason(device: Path, where: Surroundings) -> tuple[str, str]:
    """Why a device file cannot be opened, and what mends it."""
    status = device.stat()
    if not status.st_mode & 0o060:
        cause = f"its mode {status.st_mode & 0o777:03o} gives its group nothing"
        return cause, f'sudo chmod g+rw /dev/{device.name}; a udev rule with MODE="0660" makes it last'
    group, members = _group(status.st_gid, where)
    user = _user()
    if group is None:
        cause = f"it belongs to group {status.st_gid}, which has no name here"
        return cause, f"in a container: docker run --group-add {status.st_gid}"
    if user in members:
        return f"{user} is in group {group}, but was not yet when this process's session began", _LOG_IN
    return f"it belongs to group {group}, and {user} is not in it", f"sudo usermod -aG {group} {user}, then {_LOG_IN}"


def _group(gid: int, where: Surroundings) -> tuple[str | None, list[str]]:
    """Name and members of a group, by the file of groups."""
    for line in (where.text("etc/group") or "").splitlines():
        name, _, number, members = (*line.split(":"), "", "", "", "")[:4]
        if number == str(gid):
            return name, members.split(",")
    return None, []


def _user() -> str:
    """The user's name, or its number where it has none, as in a container."""
    import pwd

    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
