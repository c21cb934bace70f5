"""Images as a recipe wants them: from a data folder, and on to the training."""

from __future__ import annotations

from pathlib import Path

from tnn_edge.errors import DatasetError
from tnn_edge.nn.data_folder import read_split
from tnn_edge.nn.dataset import ImageSet, Split
from tnn_edge.nn.image_tree import ImageTree
from train.image_data import FolderImages, InMemoryImages, TrainingImages
from train.recipe import DataSettings

__all__ = ["fetch_cifar10", "read_images", "training_images"]


def fetch_cifar10(root: Path) -> None:
    """Fetch CIFAR-10 into a data folder, where it is not there yet.

    Raises:
        DatasetError: it cannot be fetched, or the folder cannot be written.
    """
    from torchvision.datasets import CIFAR10

    try:
        CIFAR10(str(root), train=True, download=True)
    except (OSError, RuntimeError, EOFError) as err:  # torchvision's own: a file with another checksum
        raise DatasetError(f"CIFAR-10 cannot be fetched into {root} ({err}); fetch it elsewhere and copy it") from err


def read_images(root: Path, split: Split, settings: DataSettings, *, workers: int) -> ImageSet | ImageTree:
    """One split of a data folder in the recipe's format: in memory, or listed to be read when needed.

    Args:
        root: the folder.
        split: which.
        settings: the recipe's.
        workers: processes that read the images of a folder ahead; 0 reads them between the steps.

    Raises:
        DatasetError: the folder does not hold it.
    """
    return read_split(root, split, image_size=settings.image_size, short_side=settings.short_side, workers=workers)


def training_images(images: ImageSet | ImageTree, settings: DataSettings, *, seed: int) -> TrainingImages:
    """Random views of images.

    Args:
        images: those to train on.
        settings: how they are augmented and normalised.
        seed: of the views of a folder's images.
    """
    if isinstance(images, ImageTree):
        return FolderImages(images, settings, seed=seed)
    return InMemoryImages(images, settings)
