"""Video files and cameras, both through OpenCV's VideoCapture."""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tnn_edge.camera.frame import Frame, FrameSource, Image
from tnn_edge.camera.opencv import import_cv2, quiet_stderr
from tnn_edge.errors import SourceError

if TYPE_CHECKING:
    import cv2

__all__ = ["Camera", "VideoFile"]

_DEVICES = Path("/dev")


class _CaptureSource(FrameSource):
    """Frames of one VideoCapture. Opening takes the first frame: only that proves that there is something to read."""

    def __init__(self, capture: cv2.VideoCapture, *, name: str, clock: Callable[[], float]) -> None:
        self._cv2 = import_cv2("reading video")
        self._capture: cv2.VideoCapture | None = capture
        self._name = name
        self._clock = clock

    @abstractmethod
    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        capture, self._capture = self._capture, None
        if capture is not None:
            capture.release()

    def _grab(self) -> bool:
        if self._capture is None:
            raise SourceError(f"{self.description} is closed; open it again to read on")
        return self._capture.grab()

    def _retrieve(self, index: int, captured_at: float) -> Frame:
        image, error = None, None
        try:
            image = self._decoded()
        except ValueError as err:
            error = str(err)
        return Frame(index=index, name=self._name, captured_at=captured_at, image=image, error=error)

    def _decoded(self) -> Image:
        assert self._capture is not None  # _grab came before
        try:
            ok, image = self._capture.retrieve()
            if not ok or image is None:
                raise ValueError("the frame does not decode")
            return np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), np.uint8)
        except self._cv2.error as err:
            raise ValueError(f"the frame does not decode ({str(err).strip()})") from err


class VideoFile(_CaptureSource):
    """Every frame of a video file, as fast as they are asked for. Its end is a normal end.

    Args:
        path: the file.
        clock: seconds since the epoch.

    Raises:
        SourceError: the file does not exist, is no video that OpenCV can read, or holds no frame.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        if not path.is_file():
            problem = "is not a file" if path.exists() else "does not exist"
            raise SourceError(f"video {path} {problem}; name an image folder, a video file or a camera index")
        cv2 = import_cv2("reading a video")
        with quiet_stderr():
            capture = cv2.VideoCapture(str(path))
        super().__init__(capture, name=path.name, clock=clock)
        self.description = f"video {path}"
        announced = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.n_frames = int(announced) if announced >= 1 else None
        if not (capture.isOpened() and self._grab()):
            self.close()
            raise SourceError(
                f"{path} is not a video that OpenCV can read, or it is cut short; "
                "look at it with ffprobe, or convert it: ffmpeg -i FILE clip.mp4"
            )
        self._grabbed_at = clock()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        yield self._retrieve(index, self._grabbed_at)
        while self._grab():
            index += 1
            yield self._retrieve(index, self._clock())


class Camera(_CaptureSource):
    """Frames of a local camera, each read when it is asked for. A camera has no normal end.

    The frame that proved the camera at opening is thrown away: by the first iteration it is as old as the engine took
    to load. The driver's queue is asked to hold one frame, so that a slow consumer sees the present, not the past.

    Args:
        index: number of the camera; N is `/dev/videoN` on Linux.
        capture: an open VideoCapture to use instead of opening camera `index`.
        clock: seconds since the epoch.

    Raises:
        SourceError: no such camera, no permission, or no frame from it; later, when it stops delivering.
        MissingExtraError: OpenCV is not installed.
    """

    n_frames = None

    def __init__(
        self, index: int, *, capture: cv2.VideoCapture | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        cv2 = import_cv2("reading a camera")
        with quiet_stderr():
            capture = cv2.VideoCapture(index) if capture is None else capture
            capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
        super().__init__(capture, name=f"camera {index}", clock=clock)
        self.description = f"camera {index}"
        if not capture.isOpened():
            self.close()
            raise SourceError(f"camera {index} cannot be opened: {_reason(index)}")
        if not self._grab():
            self.close()
            raise SourceError(f"camera {index} opens but delivers no frame; another program may be using it")

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self._grab():
            yield self._retrieve(index, self._clock())
            index += 1
        raise SourceError(
            f"camera {self._name.removeprefix('camera ')} stopped delivering after {index} frames; "
            "check its cable and power, and start again"
        )


def _reason(index: int, devices: Path = _DEVICES) -> str:
    """Why a camera does not open, and the way out, as far as the device files tell."""
    device = devices / f"video{index}"
    others = sorted(path.name for path in devices.glob("video*"))
    if not device.exists():
        return f"there is no {device} (there is {', '.join(others) or 'no camera at all'}); name one that is there"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"no permission for {device}; add yourself to its group (often: sudo usermod -aG video $USER)"
    return f"{device} is in use, or is not a capture device; try the next index (there is {', '.join(others)})"
