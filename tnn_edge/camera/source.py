"""One string names a source: a folder, a video, a camera."""

from __future__ import annotations

import re
from pathlib import Path

from tnn_edge.camera.frame import FrameSource
from tnn_edge.camera.image_folder import IMAGE_SUFFIXES, ImageFolder
from tnn_edge.camera.video import Camera, VideoFile
from tnn_edge.errors import SourceError

__all__ = ["open_source"]

_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,4})", re.ASCII)
_STREAM = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


def open_source(spec: str) -> FrameSource:
    """Open the source that `spec` names.

    | spec | source |
    |---|---|
    | `0`, `/dev/video0` | camera 0 (a folder called `0` is `./0`) |
    | a folder | all images below it |
    | a file with an image's suffix | that image |
    | any other file | a video |

    Raises:
        SourceError: what is named is not there or cannot be read.
        MissingExtraError: a video or a camera is named and OpenCV is not installed.
    """
    if camera := _CAMERA.fullmatch(spec):
        return Camera(int(camera[1]))
    if stream := _STREAM.match(spec):
        raise SourceError(f"{stream[0]} streams cannot be read; name a folder, a video file or a camera")
    path = Path(spec)
    if path.is_file() and path.suffix.lower() not in IMAGE_SUFFIXES:
        return VideoFile(path)
    return ImageFolder(path)
