"""Where training images come from: one uint8 tensor in memory, or an ImageNet-format folder read as it is needed.

Both give each process its part of the same global batches: every random choice is made for the global batch, or is a
function of (seed, epoch, image), so that N processes see the images that one would see.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.nn.image_tree import ImageTree, read_in_workers
from train.augmentation import augmented, perhaps_seen_by_sensor, seen_by_sensor
from train.processes import Processes
from train.recipe import DataSettings

__all__ = ["FolderImages", "InMemoryImages", "TrainingImages"]


class TrainingImages(Protocol):
    """Images of the training split without those held out."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Class names; a target is an index into them."""
        ...

    def __len__(self) -> int:
        """Number of images."""
        ...

    def batches(
        self, epoch: int, batch_size: int, generator: torch.Generator, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch, shuffled: this process's part of each global batch. A last batch that is not full is dropped.

        Args:
            epoch: from 0.
            batch_size: of the global batch, a multiple of the number of processes.
            generator: random source, in the same state in every process.
            processes: whose part.

        Yields:
            (images float32 [b, 3, H, W], normalised, channels last; targets int64 [b]), on the CPU.
        """
        ...


def _parts(order: Tensor, batch_size: int, processes: Processes) -> Iterator[Tensor]:
    share = processes.share(batch_size)
    for start in range(0, len(order) - batch_size + 1, batch_size):
        yield order[start : start + batch_size][share]


class InMemoryImages:
    """Random crops of the reflected images, flipped, and seen by the sensor where the settings ask for it."""

    def __init__(self, images: ImageSet, settings: DataSettings) -> None:
        self._images = images
        self._settings = settings
        self.labels = images.labels

    def __len__(self) -> int:
        return len(self._images)

    def batches(
        self,
        epoch: int,  # noqa: ARG002 (the generator goes on from epoch to epoch)
        batch_size: int,
        generator: torch.Generator,
        processes: Processes,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `TrainingImages`; epochs differ by what they draw from the generator."""
        settings = self._settings
        order = torch.randperm(len(self), generator=generator)
        for chosen in _parts(order, batch_size, processes):
            images = augmented(self._images.images[chosen], settings, generator, processes)
            if settings.light is not None:
                images = seen_by_sensor(images, settings.light, generator, processes)
            inputs = normalised(images, settings.mean, settings.std)
            yield inputs.contiguous(memory_format=torch.channels_last), self._images.targets[chosen]


class FolderImages:
    """Random squares of images whose short side was resized, flipped, seen by the sensor where the settings ask for it.

    The square, the flip and the light of an image are a function of (seed, epoch, image) alone: they depend neither on
    the workers nor on the processes.
    """

    def __init__(self, tree: ImageTree, settings: DataSettings, *, seed: int) -> None:
        self._tree = tree
        self._settings = settings
        self._seed = seed % 2**64  # numpy takes no negative seed
        self.labels = tree.labels

    def __len__(self) -> int:
        return len(self._tree)

    def batches(
        self, epoch: int, batch_size: int, generator: torch.Generator, processes: Processes
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """See `TrainingImages`; the generator gives the order alone.

        Raises:
            DatasetError: an image is gone or does not decode.
        """
        order = torch.randperm(len(self), generator=generator)
        return read_in_workers(
            partial(self._read, epoch),
            [part.tolist() for part in _parts(order, batch_size, processes)],
            workers=self._tree.workers,
            pin_memory=processes.device.type == "cuda",
        )

    def _read(self, epoch: int, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        images = torch.from_numpy(np.stack([self._view(epoch, index) for index in indices]))
        inputs = normalised(images, self._settings.mean, self._settings.std)
        return inputs.contiguous(memory_format=torch.channels_last), self._tree.targets[list(indices)]

    def _view(self, epoch: int, index: int) -> npt.NDArray[np.uint8]:
        """Shape [3, image_size, image_size]."""
        rng = np.random.default_rng((self._seed, epoch, index))
        pixels, size = self._tree.read(index), self._tree.image_size
        top, left = (int(rng.integers(side - size + 1)) for side in pixels.shape[:2])
        pixels = pixels[top : top + size, left : left + size]
        if self._settings.flip and rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        image = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return image if self._settings.light is None else perhaps_seen_by_sensor(image, self._settings.light, rng)
