"""One string names a source: a folder, a video, a camera, a stream."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tnn_edge.camera.frame import FrameSource
from tnn_edge.camera.image_folder import ImageFolder, is_folder
from tnn_edge.camera.local_camera import Camera
from tnn_edge.camera.network_stream import NetworkStream
from tnn_edge.camera.synthetic import SyntheticCamera
from tnn_edge.camera.video import VideoFile
from tnn_edge.errors import SourceError
from tnn_edge.image_file import IMAGE_SUFFIXES

__all__ = ["open_source", "source_opener"]

_CAMERA = re.compile(r"(?:/dev/video)?(\d{1,4})", re.ASCII)
_STREAM = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_STREAM_SCHEMES = ("rtsp", "rtsps", "http", "https")


def open_source(spec: str) -> FrameSource:
    """Open the source that `spec` names.

    | spec | source |
    |---|---|
    | `0`, `/dev/video0` | camera 0 (a folder called `0` is `./0`) |
    | `/dev/v4l/by-id/...` | that camera, in whichever order cameras were plugged in |
    | `rtsp://...`, `http://...` | a camera on the network |
    | `test:`, `test:?fps=30&size=640x480&frames=100&lux=500` | a moving test picture |
    | a folder | all images below it |
    | a file with an image's suffix | that image |
    | any other file | a video |

    Raises:
        SourceError: what is named is not there or cannot be read.
        MissingExtraError: a video, a camera or a stream is named and OpenCV is not installed.
    """
    return source_opener(spec)()


def source_opener(spec: str, *, folder: Path = Path()) -> Callable[[], FrameSource]:
    """What opens the source that `spec` names, see `open_source`; nothing is opened yet.

    Args:
        spec: the source.
        folder: where a relative path begins.

    Raises:
        SourceError: no source can be written so, or no such file or folder is there.
    """
    if "\0" in spec:
        raise SourceError(f"{spec!r} is no source: no name holds a NUL")
    if not spec:
        raise SourceError("the source has no name; name a camera, a stream, a video or a folder of images")
    if camera := _CAMERA.fullmatch(spec):
        return partial(Camera, int(camera[1]))
    if spec.startswith("/dev/"):
        return partial(Camera, Path(spec))
    if spec == "test:" or spec.startswith("test:?"):
        synthetic = SyntheticCamera.parse(spec)
        return lambda: synthetic
    if stream := _STREAM.match(spec):
        if stream[1].lower() not in _STREAM_SCHEMES:
            known = ", ".join(f"{scheme}://" for scheme in _STREAM_SCHEMES)
            raise SourceError(f"{stream[0]} streams cannot be read; a stream begins with one of {known}")
        return partial(NetworkStream, spec)
    try:
        path = folder / Path(spec).expanduser()
    except RuntimeError as err:
        raise SourceError(f"{spec} names the home of a user who is not there; name another folder or file") from err
    is_folder(path)  # whatever it is, it must be there
    return partial(_open_files, path)


def _open_files(path: Path) -> FrameSource:
    # Unlike Path.is_file it raises nothing where one may not look; ImageFolder then says so.
    if os.path.isfile(path) and path.suffix.lower() not in IMAGE_SUFFIXES:  # noqa: PTH113
        return VideoFile(path)
    return ImageFolder(path)
