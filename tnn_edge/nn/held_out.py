"""Whether images count as held out that a training has seen.

The held-out images of a split are the first of an order that the number of its images alone decides
(`tnn_edge.nn.dataset.split_at_random`): of one image more or fewer, others are held out; of the same, fewer are among
more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tnn_edge.errors import DatasetError

__all__ = ["check_same_images", "n_split_images"]


def n_split_images(record: Mapping[str, Any]) -> int | None:
    """How many images the training split had, by the record of a training; None where it does not say so."""
    try:
        return int(record["images"] + record["held_out"] + record.get("left_out", 0))
    except (AttributeError, LookupError, OverflowError, TypeError, ValueError):
        return None


def check_same_images(n_images: int, training: object) -> None:
    """Make sure that data is split as it was for a training.

    Args:
        n_images: in the data's training split.
        training: of a run's description, as a bundle stores it too; where a gate was learned, its record decides.

    Raises:
        DatasetError: there were more or fewer.
    """
    before = n_split_images(training.get("gate", training) if isinstance(training, Mapping) else {})
    if before is not None and n_images != before:
        raise DatasetError(
            f"the data has {n_images} training images, that of the training had {before}: images that were trained on "
            "would count as held out; name the data that it was trained on"
        )
