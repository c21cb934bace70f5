"""What a bundle says of running in 8-bit integers: the ranges of its activations, and how well that answers.

The blocks stay float32. A device rounds the weights itself when it installs the bundle, in the form its CPU is fast
with; what it cannot know is how large the activations become, so that is measured where the images are.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np
from pydantic import Field, model_validator

from tnn_edge.bundle.arrays import FloatArray, read_npz
from tnn_edge.bundle.fields import Share, Strict
from tnn_edge.errors import BundleError

__all__ = ["RANGES", "QuantisationSpec", "QuantisedWeights", "WeightBits", "read_ranges"]

RANGES: Final = "ranges.npz"
WeightBits = Literal[7, 8]
"""Of an int8 weight that are used: CPUs without 8-bit dot products add two products in 16 bits, which 8 overflow."""

_LARGEST: Final = 1e9


class QuantisedWeights(Strict):
    """How the network answers with weights of so many bits.

    Attributes:
        tolerance: largest difference between a golden output and the runtime's, as a share of the largest golden logit.
        accuracy: share of right answers on the held-out images, for each operating point.
        agreement: share of the answers that are those of the float32 network, likewise.
    """

    bits: WeightBits
    tolerance: float = Field(gt=0.0, le=1.0)
    accuracy: tuple[Share, ...]
    agreement: tuple[Share, ...]


class QuantisationSpec(Strict):
    """Measured when the ranges were; they lie in ``ranges.npz``.

    Attributes:
        n_calibration: training images that the ranges were measured on.
        kept: share of them of which no number of a value lies below its range, and none above; 1 for ranges from the
            least to the largest number.
        n_images: held-out images behind `float32_accuracy`, accuracy and agreement.
        float32_accuracy: share of right answers without quantisation on the same images, for each operating point.
        weights: one entry for each number of bits, rising.
    """

    n_calibration: int = Field(ge=1)
    kept: Share
    n_images: int = Field(ge=1)
    float32_accuracy: tuple[Share, ...]
    weights: tuple[QuantisedWeights, QuantisedWeights]

    @model_validator(mode="after")
    def _check_rows(self) -> QuantisationSpec:
        if [one.bits for one in self.weights] != [7, 8]:
            raise ValueError("weights must be measured with 7 and with 8 bits, in this order")
        n = len(self.float32_accuracy)
        for one in self.weights:
            if (len(one.accuracy), len(one.agreement)) != (n, n):
                raise ValueError(f"accuracy and agreement of {one.bits} bits must have {n} operating points")
        return self

    def with_bits(self, bits: WeightBits) -> QuantisedWeights:
        """How the network answers with weights of so many bits."""
        return next(one for one in self.weights if one.bits == bits)


def read_ranges(path: Path, n_points: int) -> dict[str, FloatArray]:
    """Name of a value of the linked graph -> least and largest number at each operating point, shape [P, 2].

    Both are NaN where an operating point does not compute the value.

    Args:
        path: of the bundle's `RANGES`.
        n_points: operating points of the bundle.

    Raises:
        BundleError: no archive of such arrays; a range that ends before it begins, is not finite or beyond 1e9.
    """
    ranges = read_npz(path)
    for name, values in ranges.items():
        if values.shape != (n_points, 2):
            raise BundleError(
                f"{path}: {name} of shape {list(values.shape)}, not {[n_points, 2]}: "
                "least and largest number at each operating point"
            )
        measured = values[~np.isnan(values).all(axis=1)]
        if not (np.abs(measured) <= _LARGEST).all():  # also true for one NaN beside a number
            raise BundleError(f"{path}: {name} holds a range that is not finite, or beyond {_LARGEST:g}")
        if (measured[:, 0] > measured[:, 1]).any():
            raise BundleError(f"{path}: {name} holds a range that ends before it begins")
    return ranges
