"""Image files as a source: every one of them, in the order of their names."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tnn_edge.camera.frame import Frame, FrameSource, Image
from tnn_edge.errors import SourceError
from tnn_edge.image_file import IMAGE_SUFFIXES, decode_image

__all__ = ["ImageFolder", "is_folder"]


class ImageFolder(FrameSource):
    """All images below a folder, sorted by their path (`10.jpg` before `9.jpg`), or one image file.

    Hidden files and folders are left out (`._a.jpg` of macOS, `.thumbnails`). An image directly inside a sub-folder
    (`<class>/a.jpg`) has that folder's name as its label. A photo's orientation tag is obeyed: networks expect the sky
    above. An image that does not decode is a frame with an error: damaged, cut short, or so large (by default beyond
    179 million pixels) that Pillow takes it for a decompression bomb. So is what has an image's name and is no regular
    file: a pipe is not waited for. Symbolic links are followed, save one to a folder that the link itself lies in.

    Args:
        path: the folder, or one image.
        clock: seconds since the epoch.

    Raises:
        SourceError: the path does not exist, holds no image, or cannot be listed.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        is_tree = is_folder(path)
        self.root = path if is_tree else path.parent
        self.paths = tuple(_list_images(path) if is_tree else _only(path))
        if not self.paths:
            suffixes = " ".join(sorted(IMAGE_SUFFIXES))
            raise SourceError(f"no image in {path} or below it (looked for {suffixes}); name another folder")
        self.n_frames = len(self.paths)
        self.description = f"{self.n_frames} images in {path}" if is_tree else f"image {path}"

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
        captured_at, captured_s = self._clock(), time.monotonic()
        try:
            image, error = _decode(_read_regular(self.paths[index])), None
        except (OSError, ValueError) as err:
            image, error = None, str(err)
        name, label = self.name(index), self.label(index)
        return Frame(
            index=index,
            name=name,
            captured_at=captured_at,
            captured_s=captured_s,
            image=image,
            error=error,
            label=label,
        )

    def class_indices(self, labels: Sequence[str]) -> list[int]:
        """The class of every image, as an index into a network's labels.

        Raises:
            SourceError: an image without a class, or a class that is not among the labels.
        """
        known = {label: i for i, label in enumerate(labels)}
        indices: list[int] = []
        for i in range(len(self.paths)):
            label = self.label(i)
            if label is None:
                raise SourceError(f"{self.root}: {self.name(i)} has no class; name a tree <class>/*.jpg")
            if label not in known:
                names = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
                folder = Path(self.root, label)
                raise SourceError(
                    f"{folder}: the bundle knows no class {label!r}; name the folders after its labels: {names}"
                )
            indices.append(known[label])
        return indices


def _read_regular(path: Path) -> bytes:
    if not stat.S_ISREG(path.stat().st_mode):
        raise ValueError("it is no regular file but a pipe, a socket or a device")
    return path.read_bytes()


def _decode(data: bytes) -> Image:
    try:
        return decode_image(data)
    except ValueError as err:
        raise ValueError(f"the image does not decode ({err})") from err


def is_folder(path: Path) -> bool:
    """Whether a path is a folder.

    Raises:
        SourceError: there is nothing, or one may not look.
    """
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError) as err:
        raise SourceError(f"{path} does not exist; name an image folder, a video file or a camera index") from err
    except OSError as err:
        raise SourceError(f"{path} cannot be read ({err.strerror}); check its permissions") from err


def _only(path: Path) -> list[Path]:
    return [path] if path.suffix.lower() in IMAGE_SUFFIXES else []


def _list_images(root: Path) -> list[Path]:
    found: list[Path] = []
    for folder, below, files in os.walk(root, onerror=_refuse, followlinks=True):
        below[:] = [name for name in below if not name.startswith(".") and not _leads_back(Path(folder, name))]
        found += [Path(folder, name) for name in files if not name.startswith(".")]
    images = (file for file in found if file.suffix.lower() in IMAGE_SUFFIXES)
    return sorted(images, key=lambda file: file.relative_to(root).as_posix())


def _leads_back(folder: Path) -> bool:
    """Whether this is a link to a folder that it lies in, which would be walked for ever."""
    return folder.is_symlink() and any(folder.samefile(above) for above in folder.absolute().parents)


def _refuse(err: OSError) -> None:
    raise SourceError(f"{err.filename} cannot be listed ({err.strerror}); check its permissions") from err
