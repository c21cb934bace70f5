"""Image files, decoded by the same steps in training and on a device."""

from __future__ import annotations

import io
import warnings

import numpy as np
import numpy.typing as npt
import PIL.Image
import PIL.ImageOps

__all__ = ["IMAGE_SUFFIXES", "decode_image"]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm"})
_FORMATS = ("JPEG", "PNG", "BMP", "PPM", "WEBP")
"""What a file may be, whatever its name says. Without a list Pillow also tries EPS, and starts Ghostscript for it."""


def decode_image(data: bytes) -> npt.NDArray[np.uint8]:
    """Pixels of an image file, turned upright as its orientation tag says, RGB, shape [H, W, 3].

    Raises:
        ValueError: why it does not decode.
    """
    if not data:
        raise ValueError("the file is empty")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of oddities in images that decode; they would break a live line
            with PIL.Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
                return np.asarray(PIL.ImageOps.exif_transpose(opened).convert("RGB"), np.uint8)
    except PIL.UnidentifiedImageError as err:
        raise ValueError("damaged, or no image of its kind") from err
    except Exception as err:  # damaged bytes raise OSError, ValueError, SyntaxError, struct.error and more
        raise ValueError(str(err) or type(err).__name__) from err
