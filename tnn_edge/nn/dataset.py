"""Labelled images as one uint8 tensor in memory.

Read from a torchvision CIFAR-10 root, from an image-folder tree (``train/<class>/*.jpg``, ``test/<class>/*.jpg``),
or from zips of such a tree lying in the folder.
"""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tnn_edge.errors import DatasetError
from tnn_edge.image_file import IMAGE_SUFFIXES, decode_image
from tnn_edge.image_size import stretched

__all__ = [
    "ImageSet",
    "Split",
    "check_labels",
    "class_folders",
    "decoded",
    "empty_class",
    "is_folder",
    "load_images",
    "normalised",
    "split_at_random",
]

Pixels = npt.NDArray[np.uint8]
Split = Literal["train", "test"]
_LAYOUT = (
    "expected a torchvision CIFAR-10 root (cifar-10-batches-py/), a tree {split}/<class>/*.jpg, or a zip of such a tree"
)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Images of one size with their classes.

    Attributes:
        images: uint8, RGB, shape [N, 3, H, W].
        targets: class of each image, int64, shape [N].
        labels: class names; the target is an index into it.
        names: where each image came from, relative to the data folder.
    """

    images: Tensor
    targets: Tensor
    labels: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: Tensor) -> ImageSet:
        """The images at `indices`, in that order."""
        names = tuple(self.names[i] for i in indices.tolist())
        return ImageSet(images=self.images[indices], targets=self.targets[indices], labels=self.labels, names=names)

    def check_labels(self, labels: Sequence[str]) -> None:
        """Make sure that the targets mean what a network's logits mean.

        Raises:
            DatasetError: the classes are others, or in another order.
        """
        check_labels(self.labels, labels)

    def hold_out(self, n: int, seed: int = 0) -> tuple[ImageSet, ImageSet]:
        """Split off n images drawn at random: (the rest, the held-out ones). The same seed gives the same split."""
        rest, held_out = split_at_random(len(self), n, seed)
        return self.take(rest), self.take(held_out)

    def batches(self, size: int, *, mean: Sequence[float], std: Sequence[float]) -> Iterator[tuple[Tensor, Tensor]]:
        """Every image once, in order: (float32 [b, 3, H, W], normalised, channels last; targets int64 [b])."""
        for images, targets in zip(self.images.split(size), self.targets.split(size), strict=True):
            yield normalised(images, mean, std).contiguous(memory_format=torch.channels_last), targets


def check_labels(labels: Sequence[str], expected: Sequence[str]) -> None:
    """Make sure that data has a network's classes, in the order of its logits.

    Raises:
        DatasetError: the classes are others, or in another order.
    """
    if tuple(labels) != tuple(expected):
        raise DatasetError(
            f"the data's classes are {', '.join(labels[:10])}, the network's {', '.join(expected[:10])}; "
            "name the data that it was trained on"
        )


def is_folder(path: Path) -> bool:
    """Whether there is such a folder; False also for a name that is too long to be one's."""
    try:
        return path.is_dir()
    except OSError:
        return False


def class_folders(split: Path) -> list[str]:
    """Names of the folders in a split's folder, sorted; none where it does not exist. Hidden ones are no classes."""
    if not split.is_dir():
        return []
    with os.scandir(split) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and _is_class(entry.name))


def _is_class(folder: str) -> bool:
    return not folder.startswith(".") and folder != "__MACOSX"  # what a Mac adds to the files that it zips


def empty_class(folder: Path) -> DatasetError:
    """The error of a class without images: skipped, it would shift the targets of those after it."""
    return DatasetError(f"class folder {folder} holds no image; fill it, or remove it from every split")


def split_at_random(n_images: int, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of all images but n, and of the n, both rising; the same seed gives the same split.

    Raises:
        DatasetError: there are not so many that one is left.
    """
    if not 0 <= n < n_images:
        raise DatasetError(
            f"cannot hold out {n} of {n_images} images; hold out fewer, or name a folder with more images"
        )
    order = torch.randperm(n_images, generator=torch.Generator().manual_seed(seed))
    return order[n:].sort().values, order[:n].sort().values


def normalised(images: Tensor, mean: Iterable[float], std: Iterable[float]) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 with pixels scaled to [0, 1], minus the mean, over the deviation."""
    offset = torch.tensor(list(mean)).view(1, 3, 1, 1)
    scale = torch.tensor(list(std)).view(1, 3, 1, 1)
    return (images.float() / 255 - offset) / scale


def load_images(root: Path, split: Split, *, image_size: int) -> ImageSet:
    """Read one split of a data folder.

    Images of another size are resized to image_size x image_size (bilinear, antialiased).

    Raises:
        DatasetError: the folder does not hold the expected tree, or an image does not decode.
    """
    if not is_folder(root):
        raise DatasetError(f"data folder {root} does not exist; {_LAYOUT.format(split=split)}")
    if (root / "cifar-10-batches-py").is_dir():
        return _from_torchvision(root, split, image_size)
    files = sorted(_tree_files(root, split) or _zip_files(root, split))
    if not files:
        raise DatasetError(f"no {split} images below {root}; {_LAYOUT.format(split=split)}")
    for (name, place), (following, other) in pairwise(files):
        if name == following:  # seen twice in training, or held out and trained on
            raise DatasetError(f"{name} is in {place} and in {other}; remove one of them")
    labels = tuple(sorted({PurePosixPath(name).parts[1] for name, _ in files}))
    index = {label: i for i, label in enumerate(labels)}
    try:
        images = np.empty((len(files), 3, image_size, image_size), dtype=np.uint8)
    except MemoryError as err:
        raise DatasetError(
            f"{len(files)} images of {image_size} pixels do not fit in memory; make them smaller"
        ) from err
    archives: dict[Path, zipfile.ZipFile] = {}
    try:
        for i, (name, place) in enumerate(files):
            pixels = decoded(_read(name, place, archives), f"{place}: {name}")
            images[i] = stretched(pixels, image_size, image_size).transpose(2, 0, 1)
    finally:
        for archive in archives.values():
            archive.close()
    targets = torch.tensor([index[PurePosixPath(name).parts[1]] for name, _ in files])
    return ImageSet(
        images=torch.from_numpy(images), targets=targets, labels=labels, names=tuple(name for name, _ in files)
    )


def _from_torchvision(root: Path, split: Split, image_size: int) -> ImageSet:
    from torchvision.datasets import CIFAR10

    try:
        data = CIFAR10(str(root), train=split == "train", download=False)
    except (RuntimeError, OSError, EOFError) as err:
        raise DatasetError(f"{root}: not a complete CIFAR-10 root ({err}); --download fetches it") from err
    resized = np.stack([stretched(image, image_size, image_size) for image in data.data])
    names = tuple(f"{split}/{data.classes[t]}/{i:05d}" for i, t in enumerate(data.targets))
    images = torch.from_numpy(resized.transpose(0, 3, 1, 2).copy())
    return ImageSet(images=images, targets=torch.tensor(data.targets), labels=tuple(data.classes), names=names)


def _is_image(name: PurePosixPath, split: Split) -> bool:
    if len(name.parts) != 3 or name.suffix.lower() not in IMAGE_SUFFIXES:
        return False
    return name.parts[0] == split and _is_class(name.parts[1])


def _tree_files(root: Path, split: Split) -> list[tuple[str, Path]]:
    relative = (path.relative_to(root) for path in (root / split).glob("*/*") if path.is_file())
    names = [name.as_posix() for name in relative if _is_image(PurePosixPath(name.as_posix()), split)]
    filled = {PurePosixPath(name).parts[1] for name in names}
    empty = [label for label in class_folders(root / split) if label not in filled]
    if filled and empty:
        raise empty_class(root / split / empty[0])
    return [(name, root) for name in names]


def _zip_files(root: Path, split: Split) -> list[tuple[str, Path]]:
    return [(name, path) for path in sorted(root.glob("*.zip")) for name in _zip_names(path, split)]


def _zip_names(path: Path, split: Split) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield from (name for name in archive.namelist() if _is_image(PurePosixPath(name), split))
    except (zipfile.BadZipFile, NotImplementedError, OSError, ValueError) as err:
        raise DatasetError(f"{path}: not a readable zip ({err}); make it anew, or unpack it beside") from err


def _read(name: str, place: Path, archives: dict[Path, zipfile.ZipFile]) -> bytes:
    if place.is_dir():
        try:
            return (place / name).read_bytes()
        except OSError as err:
            raise DatasetError(f"{place}: cannot read {name} ({err.strerror}); make it readable or remove it") from err
    try:
        if place not in archives:
            archives[place] = zipfile.ZipFile(place)
        return archives[place].read(name)
    except RuntimeError as err:  # also NotImplementedError
        raise DatasetError(
            f"{place}: {name} cannot be unpacked ({err}); zip it anew, deflated and without a password"
        ) from err
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError) as err:
        raise DatasetError(f"{place}: {name} is damaged ({err}); make the zip anew") from err


def decoded(data: bytes, where: str) -> Pixels:
    """Pixels of an image file: RGB, shape [H, W, 3].

    Raises:
        DatasetError: it does not decode; the message begins with `where`.
    """
    try:
        return decode_image(data)
    except ValueError as err:
        raise DatasetError(f"{where} does not decode as an image ({err}); remove or replace it") from err
