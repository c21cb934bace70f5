"""OpenCV, imported where it is needed, for videos and cameras alone, and kept quiet.

Our errors say what went wrong once; OpenCV and FFmpeg would say it again on stderr, in the middle of the live
line. Both listen to environment variables, but OpenCV's reader of AVI files prints straight to descriptor 2.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from tnn_edge.errors import MissingExtraError

__all__ = ["import_cv2", "quiet_stderr"]

# Read by OpenCV when it is loaded and when FFmpeg is first used; a user's own setting wins.
_QUIET = {"OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}


def import_cv2(purpose: str) -> ModuleType:
    """The cv2 module.

    Args:
        purpose: what it is needed for, as the subject of the error's sentence.

    Raises:
        MissingExtraError: OpenCV is not installed, or its libraries do not load.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import cv2
    except ImportError as err:
        raise MissingExtraError(f"{purpose} needs OpenCV ({err}): pip install 'tnn-edge[camera]'") from err
    return cv2


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send descriptor 2 to /dev/null for a moment. It is the whole process's, so keep the moment short."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr, so nothing to quiet
        yield
        return
    sink = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(sink)
