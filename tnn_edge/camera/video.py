"""Video files, through OpenCV."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tnn_edge.camera.capture import CaptureSource
from tnn_edge.camera.frame import Frame
from tnn_edge.camera.opencv import import_cv2, quiet_stderr
from tnn_edge.errors import SourceError

__all__ = ["VideoFile"]


class VideoFile(CaptureSource):
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
        self._grabbed = self._now()

    def __iter__(self) -> Iterator[Frame]:
        index = 0
        yield self._retrieve(index, self._grabbed)
        while self._grab():
            index += 1
            yield self._retrieve(index, self._now())
