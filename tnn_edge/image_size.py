"""Images brought to a network's size, by the same steps in training and on a device.

Pillow's bilinear resize, which is antialiased where it shrinks. OpenCV's has no such filter, and Pillow's own shortcut
(`reducing_gap`) is a few levels off: neither would give a network the bits that it was trained on.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import PIL.Image

__all__ = ["centre", "stretched", "with_short_side"]

Image = npt.NDArray[np.uint8]


def stretched(image: Image, height: int, width: int) -> Image:
    """The whole image at another size, whatever its shape was.

    Args:
        image: RGB, shape [H, W, 3].
        height: of the result.
        width: of the result.
    """
    if image.shape[:2] == (height, width):
        return image
    resized = PIL.Image.fromarray(image).resize((width, height), PIL.Image.Resampling.BILINEAR)
    return np.asarray(resized, np.uint8)


def with_short_side(image: Image, short_side: int) -> Image:
    """The image, in its own proportions, with a short side of so many pixels."""
    height, width = (int(short_side * side / min(image.shape[:2])) for side in image.shape[:2])
    return stretched(image, height, width)


def centre(image: Image, height: int, width: int) -> Image:
    """The rectangle in the middle of an image that is at least as large; half a pixel is rounded to even."""
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]
