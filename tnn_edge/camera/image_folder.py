"""Image files as a source: every one of them, in the order of their names."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from tnn_edge.camera.frame import Frame, FrameSource, Image
from tnn_edge.camera.opencv import import_cv2, quiet_stderr
from tnn_edge.errors import SourceError

__all__ = ["IMAGE_SUFFIXES", "ImageFolder"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})


class ImageFolder(FrameSource):
    """All images below a folder, sorted by their path (`10.jpg` before `9.jpg`), or one image file.

    Hidden files and folders are left out (`._a.jpg` of macOS, `.thumbnails`). An image directly inside a sub-folder
    (`<class>/a.jpg`) has that folder's name as its label. A photo's orientation tag is obeyed: networks expect the sky
    above. An image that does not decode is a frame with an error, and so is a JPEG that breaks off in the middle.

    Args:
        path: the folder, or one image.
        clock: seconds since the epoch.

    Raises:
        SourceError: the path does not exist, holds no image, or cannot be listed.
        MissingExtraError: OpenCV is not installed.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._cv2 = import_cv2("reading images")
        self._clock = clock
        self.root = path if path.is_dir() else path.parent
        self.paths = tuple(_list_images(path))
        if not self.paths:
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(f"no image in {path} or below it (looked for {suffixes}); name another folder")
        self.n_frames = len(self.paths)
        self.description = f"{self.n_frames} images in {path}" if path.is_dir() else f"image {path}"

    def __iter__(self) -> Iterator[Frame]:
        return (self.read(index) for index in range(len(self.paths)))

    def name(self, index: int) -> str:
        """Path of image `index` below the folder."""
        return self.paths[index].relative_to(self.root).as_posix()

    def label(self, index: int) -> str | None:
        """Class of image `index`: its folder's name in a tree `<class>/a.jpg`, else None."""
        parts = self.paths[index].relative_to(self.root).parts
        return parts[0] if len(parts) == 2 else None

    def read(self, index: int) -> Frame:
        """Read and decode image `index`."""
        captured_at = self._clock()
        try:
            image, error = self._decode(self.paths[index].read_bytes()), None
        except (OSError, ValueError) as err:
            image, error = None, str(err)
        name, label = self.name(index), self.label(index)
        return Frame(index=index, name=name, captured_at=captured_at, image=image, error=error, label=label)

    def _decode(self, data: bytes) -> Image:
        if not data:
            raise ValueError("the file is empty")
        if _is_cut_jpeg(data):
            raise ValueError(f"the JPEG breaks off after {len(data)} bytes")
        try:
            with quiet_stderr():
                image = self._cv2.imdecode(np.frombuffer(data, np.uint8), self._cv2.IMREAD_COLOR)
        except self._cv2.error as err:
            raise ValueError(f"the image does not decode ({str(err).strip()})") from err
        if image is None:
            raise ValueError("the image does not decode (damaged, or no image of its kind)")
        return np.asarray(image, np.uint8)


def _is_cut_jpeg(data: bytes) -> bool:
    # OpenCV 4 fills the missing part with grey and says nothing. Inside a scan, 0xFF is always stuffed, so the last
    # start of scan (FFDA) of a whole file is followed by an end of image (FFD9); what cameras append comes after it.
    return data.startswith(b"\xff\xd8") and data.rfind(b"\xff\xd9") < data.rfind(b"\xff\xda")


def _list_images(path: Path) -> list[Path]:
    if not path.exists():
        raise SourceError(f"{path} does not exist; name an image folder, a video file or a camera index")
    if not path.is_dir():
        return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []
    found: list[Path] = []
    for folder, below, files in os.walk(path, onerror=_refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    images = (file for file in found if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(images, key=lambda file: file.relative_to(path).as_posix())


def _refuse(err: OSError) -> None:
    raise SourceError(f"{err.filename} cannot be listed ({err.strerror}); check its permissions") from err
