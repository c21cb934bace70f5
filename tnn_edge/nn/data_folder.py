"""A split of a data folder, in memory or read as it is needed."""

from __future__ import annotations

from pathlib import Path

from tnn_edge.nn.dataset import ImageSet, Split, load_images
from tnn_edge.nn.image_tree import ImageTree, read_image_tree

__all__ = ["read_split"]


def read_split(
    root: Path, split: Split, *, image_size: int, short_side: int | None, workers: int = 0
) -> ImageSet | ImageTree:
    """Open one split of a data folder.

    Args:
        root: the folder.
        split: which.
        image_size: height and width of an image.
        short_side: None loads every image into memory, stretched to image_size; else the folder is a tree in ImageNet's
            format, of which images are read when they are needed, their short side resized to this.
        workers: processes that read such a tree ahead.

    Raises:
        DatasetError: the folder does not hold the split.
    """
    if short_side is None:
        return load_images(root, split, image_size=image_size)
    return read_image_tree(root, split, short_side=short_side, image_size=image_size, workers=workers)
