"""What videos, cameras and network streams share: OpenCV's VideoCapture."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tnn_edge.camera.frame import Frame, FrameSource, Image
from tnn_edge.camera.opencv import import_cv2
from tnn_edge.errors import SourceError

if TYPE_CHECKING:
    import cv2

__all__ = ["CaptureSource", "Instant"]


class Instant(NamedTuple):
    """One moment on two clocks: seconds since the epoch, and seconds that never jump."""

    wall_s: float
    monotonic_s: float


class CaptureSource(FrameSource):
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

    def _retrieve(self, index: int, grabbed: Instant) -> Frame:
        image, error = None, None
        try:
            image = self._decoded()
        except ValueError as err:
            error = str(err)
        return Frame(
            index=index,
            name=self._name,
            captured_at=grabbed.wall_s,
            captured_s=grabbed.monotonic_s,
            image=image,
            error=error,
        )

    def _now(self) -> Instant:
        return Instant(self._clock(), time.monotonic())

    def _decoded(self) -> Image:
        assert self._capture is not None  # _grab came before
        try:
            ok, image = self._capture.retrieve()
            if not ok or image is None:
                raise ValueError("the frame does not decode")
            return np.asarray(self._cv2.cvtColor(image, self._cv2.COLOR_BGR2RGB), np.uint8)
        except self._cv2.error as err:
            raise ValueError(f"the frame does not decode ({str(err).strip()})") from err
