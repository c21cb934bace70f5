"""From a camera's pixels to the network's input, as the manifest says and as training did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tnn_edge.camera.frame import Image
from tnn_edge.errors import InputError
from tnn_edge.image_size import centre, stretched, with_short_side

if TYPE_CHECKING:
    from tnn_edge.bundle.manifest import InputSpec

__all__ = ["Preprocessor", "preprocess"]


class Preprocessor:
    """Turns images into one preallocated input array.

    Steps: bring to the network's size (`tnn_edge.image_size`: the whole picture stretched, or where the manifest names
    a short side, resized to that and its centre cut out), scale to [0, 1], subtract the mean, divide by the deviation.
    They are training's operations in training's order: the same image gives the same input, bit for bit.

    Args:
        spec: the manifest's input.
    """

    def __init__(self, spec: InputSpec) -> None:
        _, _, height, width = spec.shape
        self._height, self._width = height, width
        self._short_side = spec.short_side
        self._mean = np.array(spec.mean, np.float32).reshape(3, 1, 1)
        self._std = np.array(spec.std, np.float32).reshape(3, 1, 1)
        self._buffer: npt.NDArray[np.float32] = np.empty((1, 3, height, width), np.float32)

    def __call__(self, image: Image, out: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """Fill the input array from one image.

        Args:
            image: uint8, RGB, shape [H, W, 3].
            out: float32, the manifest's shape; by default an array that the next call overwrites.

        Returns:
            `out`, filled.

        Raises:
            InputError: `image` is not such an image.
        """
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
            raise InputError(f"image must be uint8 of shape [H, W, 3], got {image.dtype} of shape {image.shape}")
        result = self._buffer if out is None else out
        planes = result[0]
        np.copyto(planes, self._sized(image).transpose(2, 0, 1))
        planes /= 255.0
        planes -= self._mean
        planes /= self._std
        return result

    def _sized(self, image: Image) -> Image:
        """The image at the network's size, [height, width, 3]."""
        if self._short_side is None:
            return stretched(image, self._height, self._width)
        return centre(with_short_side(image, self._short_side), self._height, self._width)


def preprocess(image: Image, spec: InputSpec) -> npt.NDArray[np.float32]:
    """One image to an input array of its own; for a stream of images keep a `Preprocessor`."""
    return Preprocessor(spec)(image)
