"""One split of an ImageNet-format folder, whose images stay on disk and are read when they are needed.

The folder holds ``train/<class>/*.JPEG`` and ``val/<class>/*.JPEG`` (or ``test/<class>/*.JPEG``). Evaluation sees the
centre of every image whose short side was resized.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tnn_edge.errors import DatasetError
from tnn_edge.image_file import IMAGE_SUFFIXES
from tnn_edge.image_size import centre, with_short_side
from tnn_edge.nn.dataset import (
    ImageSet,
    Split,
    check_labels,
    class_folders,
    decoded,
    empty_class,
    is_folder,
    normalised,
    split_at_random,
)

__all__ = ["ImageTree", "read_image_tree", "read_in_workers"]

Batch = tuple[Tensor, Tensor]
_LAYOUT = "expected train/<class>/*.JPEG and val/<class>/*.JPEG"


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTree:
    """Labelled image files.

    Attributes:
        root: the data folder.
        files: paths relative to it, as bytes in one array: workers that fork would copy a list of strings page by page.
        targets: class of each image, int64, shape [N].
        labels: class names; the target is an index into it.
        short_side: to which images are resized, in pixels; at least image_size.
        image_size: side of the square that is cut from them.
        workers: processes in which `batches` and `load` read ahead; 0 reads in this one, when a batch is asked for.
    """

    root: Path
    files: npt.NDArray[np.bytes_]
    targets: Tensor
    labels: tuple[str, ...]
    short_side: int
    image_size: int
    workers: int = 0

    def __post_init__(self) -> None:
        if self.short_side < self.image_size:
            raise DatasetError(f"short_side must be at least image_size {self.image_size}, got {self.short_side}")

    def __len__(self) -> int:
        return len(self.files)

    def name(self, index: int) -> str:
        """Where an image lies, relative to the data folder."""
        return os.fsdecode(bytes(self.files[index]))

    def take(self, indices: Tensor) -> ImageTree:
        """The images at `indices`, in that order."""
        return replace(self, files=self.files[indices.numpy()], targets=self.targets[indices])

    def check_labels(self, labels: Sequence[str]) -> None:
        """Make sure that the targets mean what a network's logits mean.

        Raises:
            DatasetError: the classes are others, or in another order.
        """
        check_labels(self.labels, labels)

    def hold_out(self, n: int, seed: int = 0) -> tuple[ImageTree, ImageTree]:
        """Split off n images drawn at random: (the rest, the held-out ones). The same seed gives the same split."""
        rest, held_out = split_at_random(len(self), n, seed)
        return self.take(rest), self.take(held_out)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """An image whose short side is `short_side` (bilinear, antialiased): RGB, shape [H, W, 3].

        Raises:
            DatasetError: the file is gone, or does not decode.
        """
        name = self.name(index)
        try:
            data = (self.root / name).read_bytes()
        except OSError as err:
            raise DatasetError(f"{self.root}: cannot read {name} ({err.strerror})") from err
        return with_short_side(decoded(data, f"{self.root}: {name}"), self.short_side)

    def centre(self, index: int) -> npt.NDArray[np.uint8]:
        """The square in the middle of an image: RGB, shape [3, image_size, image_size]."""
        return centre(self.read(index), self.image_size, self.image_size).transpose(2, 0, 1)

    def batches(self, size: int, *, mean: Sequence[float], std: Sequence[float]) -> Iterator[Batch]:
        """Every image once, in order: (float32 [b, 3, S, S], normalised, channels last; targets int64 [b])."""
        for images, targets in self._centres(size):
            yield normalised(images, mean, std).contiguous(memory_format=torch.channels_last), targets

    def load(self) -> ImageSet:
        """All images in memory: 150 KB each at 224 pixels."""
        images = torch.empty((len(self), 3, self.image_size, self.image_size), dtype=torch.uint8)
        for part, (pixels, _) in zip(images.split(64), self._centres(64), strict=True):
            part.copy_(pixels)
        names = tuple(self.name(i) for i in range(len(self)))
        return ImageSet(images=images, targets=self.targets, labels=self.labels, names=names)

    def _centres(self, size: int) -> Iterator[Batch]:
        parts = [list(range(start, min(start + size, len(self)))) for start in range(0, len(self), size)]
        return read_in_workers(self._read_centres, parts, workers=self.workers)

    def _read_centres(self, indices: Sequence[int]) -> Batch:
        return torch.from_numpy(np.stack([self.centre(i) for i in indices])), self.targets[list(indices)]


def read_image_tree(root: Path, split: Split, *, short_side: int, image_size: int, workers: int = 0) -> ImageTree:
    """List the images of one split, in the order of their names; ``test`` is ``val/`` where there is one.

    The other arguments are attributes of `ImageTree`.

    Raises:
        DatasetError: the folder does not hold the split, a class has no image, or the splits' classes differ.
    """
    if not is_folder(root):
        raise DatasetError(f"data folder {root} does not exist; {_LAYOUT}")
    folder, other = _folder(root, split), _folder(root, "test" if split == "train" else "train")
    labels = class_folders(folder)
    if not labels:
        raise DatasetError(f"{folder} holds no class folders; {_LAYOUT}")
    others = class_folders(other)
    if others:  # the test split of ImageNet itself has no classes
        _check_same_classes({folder.name: labels, other.name: others})
    names = [_images(folder / label) for label in labels]
    files = [f"{folder.name}/{label}/{name}" for label, some in zip(labels, names, strict=True) for name in some]
    return ImageTree(
        root=root,
        files=np.array([os.fsencode(file) for file in files]),
        targets=torch.repeat_interleave(torch.tensor([len(some) for some in names])),
        labels=tuple(labels),
        short_side=short_side,
        image_size=image_size,
        workers=workers,
    )


def _folder(root: Path, split: Split) -> Path:
    return root / ("val" if split == "test" and (root / "val").is_dir() else split)


def _images(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        names = sorted(e.name for e in entries if Path(e.name).suffix.lower() in IMAGE_SUFFIXES and e.is_file())
    if not names:
        raise empty_class(folder)
    return names


def _check_same_classes(classes: dict[str, list[str]]) -> None:
    (a, in_a), (b, in_b) = classes.items()
    only = {a: sorted(set(in_a) - set(in_b)), b: sorted(set(in_b) - set(in_a))}
    faults = [f"only in {split}: {', '.join(names[:10])}" for split, names in only.items() if names]
    if faults:
        raise DatasetError(f"the classes of {a}/ and {b}/ differ; {'; '.join(faults)}")


class _Parts(Dataset[Batch | DatasetError]):
    """What workers read: a key is the list of a batch's images."""

    def __init__(self, read: Callable[[Sequence[int]], Batch]) -> None:
        self.read = read

    def __getitem__(self, indices: Sequence[int]) -> Batch | DatasetError:
        try:
            return self.read(indices)
        except DatasetError as err:
            return err  # raised there, torch would bury it in a worker's traceback


def _as_it_is(batch: Any) -> Any:
    return batch


def read_in_workers(
    read: Callable[[Sequence[int]], Batch],
    parts: Iterable[Sequence[int]],
    *,
    workers: int,
    pin_memory: bool = False,
) -> Iterator[Batch]:
    """What `read` makes of each of the `parts`, in their order.

    Args:
        read: from indices of images to a batch; where processes are not forked it must survive a pickle.
        parts: indices of the images of each batch.
        workers: processes that read ahead; 0 reads here.
        pin_memory: into page-locked memory, from which a GPU copies while it computes.

    Raises:
        DatasetError: as `read` raises it.
    """
    loader = DataLoader(
        _Parts(read),
        batch_size=None,
        sampler=parts,
        num_workers=workers,
        collate_fn=_as_it_is,
        pin_memory=pin_memory,
        generator=torch.Generator(),  # else it draws the workers' seed from the global source of random numbers
    )
    for batch in loader:
        if isinstance(batch, DatasetError):
            raise batch
        yield batch
