"""Cameras on a network, RTSP or HTTP, through OpenCV's FFmpeg."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit, urlunsplit

from tnn_edge.camera.capture import CaptureSource
from tnn_edge.camera.frame import Frame
from tnn_edge.camera.opencv import import_cv2, quiet_stderr
from tnn_edge.errors import SourceError

__all__ = ["NetworkStream", "without_credentials"]


class NetworkStream(CaptureSource):
    """Frames of a stream, each decoded when it is asked for.

    Args:
        url: `rtsp://`, `rtsps://`, `http://` or `https://`; what stands before an `@` appears in no message.
        timeout_s: how long opening, and each frame, may take.
        clock: seconds since the epoch.

    Raises:
        SourceError: nothing answers, or what answers is no video; later, when the stream ends.
        MissingExtraError: OpenCV is not installed.
    """

    n_frames = None
    is_live = True

    def __init__(self, url: str, *, timeout_s: float = 10.0, clock: Callable[[], float] = time.time) -> None:
        cv2 = import_cv2("reading a stream")
        self.description = f"stream {without_credentials(url)}"
        timeout_ms = max(1, round(1000 * timeout_s))
        limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
        with quiet_stderr():
            capture = cv2.VideoCapture(url, cv2.CAP_FFMPEG, limits)
        super().__init__(capture, name=self.description, clock=clock)
        if not (capture.isOpened() and self._grab()):
            self.close()
            raise SourceError(
                f"{self.description} cannot be opened: nothing answers within {timeout_s:g} s, or what answers is no "
                "video; check address, user and password with ffprobe"
            )

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        while self._grab():
            yield self._retrieve(index, self._now())
            index += 1
        raise SourceError(f"{self.description} ended after {index} frames; check the camera and the network")


def without_credentials(url: str) -> str:
    """The address without user and password."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
