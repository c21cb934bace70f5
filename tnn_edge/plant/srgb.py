"""sRGB, in which pictures are stored, and linear light, in which sensors count (IEC 61966-2-1)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["LINEAR_LIGHT", "to_linear", "to_srgb"]

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]


def to_linear(values: Images) -> Floats:
    """SRGB values 0..255 to linear light in [0, 1]."""
    share = np.asarray(values, np.float64) / 255.0
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def to_srgb(linear: Floats) -> Images:
    """Linear light to the nearest sRGB values 0..255; what lies outside [0, 1] is cut off."""
    light = np.clip(linear, 0.0, 1.0)
    share = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(share * 255.0).astype(np.uint8)


LINEAR_LIGHT = to_linear(np.arange(256, dtype=np.uint8))
"""Linear light of each sRGB value."""
