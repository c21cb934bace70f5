"""Cameras of this machine, through OpenCV."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tnn_edge.camera.capture import CaptureSource
from tnn_edge.camera.frame import Frame
from tnn_edge.camera.opencv import import_cv2, quiet_stderr
from tnn_edge.errors import SourceError

if TYPE_CHECKING:
    import cv2

__all__ = ["Camera"]

_DEVICES = Path("/dev")


class Camera(CaptureSource):
    """Frames of a local camera, each read when it is asked for. A camera has no normal end.

    The frame that proved the camera at opening is thrown away: by the first iteration it is as old as the engine took
    to load. The driver's queue is asked to hold one frame, so that a slow consumer sees the present, not the past.

    Args:
        device: number of the camera (N is `/dev/videoN` on Linux), or its path: numbers change when cameras are plugged
            in another order, `/dev/v4l/by-id/...` stays with the camera.
        capture: an open VideoCapture to use instead of opening the device.
        clock: seconds since the epoch.

    Raises:
        SourceError: no such camera, no permission, or no frame from it; later, when it stops delivering.
        MissingExtraError: OpenCV is not installed.
    """

    n_frames = None
    is_live = True

    def __init__(
        self, device: int | Path, *, capture: cv2.VideoCapture | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        index = device if isinstance(device, int) else _index_of(device)
        cv2 = import_cv2("reading a camera")
        with quiet_stderr():
            capture = cv2.VideoCapture(index) if capture is None else capture
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        self.description = f"camera {device}"
        super().__init__(capture, name=self.description, clock=clock)
        if not capture.isOpened():
            self.close()
            raise SourceError(f"{self.description} cannot be opened: {_reason(index)}")
        if not self._grab():
            self.close()
            raise SourceError(f"{self.description} opens but delivers no frame; another program may be using it")

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self._grab():
            yield self._retrieve(index, self._now())
            index += 1
        raise SourceError(
            f"{self.description} stopped delivering after {index} frames; check its cable and power, and start again"
        )


def _index_of(path: Path) -> int:
    """Number of the camera that a device file, or a link to one, leads to."""
    if not path.exists():
        others = sorted(other.name for other in path.parent.glob("*"))
        raise SourceError(f"there is no camera {path} (there is {', '.join(others) or 'none'}); name one that is there")
    target = path.resolve()
    if not (target.name.startswith("video") and target.name[5:].isdecimal()):
        raise SourceError(f"{path} is no camera's device file; name /dev/videoN or a link below /dev/v4l/by-id")
    return int(target.name[5:])


def _reason(index: int, devices: Path = _DEVICES) -> str:
    """Why a camera does not open, and the way out, as far as the device files tell."""
    device = devices / f"video{index}"
    others = sorted(path.name for path in devices.glob("video*"))
    if not device.exists():
        return f"there is no {device} (there is {', '.join(others) or 'no camera at all'}); name one that is there"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission for {device}; add yourself to its group (often: sudo usermod -aG video $USER)"
    return f"{device} is in use, or is not a capture device; try the next index (there is {', '.join(others)})"
