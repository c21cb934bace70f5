"""An image sensor: what a camera would see of a picture at a given illuminance, and back.

The linear model of EMVA 1288: photo-electrons are Poisson, the full well cuts them off, reading adds Gaussian noise, a
gain K turns electrons into the converter's codes, the converter rounds. Below saturation a code has

    mean K mu_e        variance K^2 (mu_e + read_noise^2) + 1/12

for mu_e expected electrons. Every colour of every pixel is read for itself. The dark level is subtracted and codes
below it are cut off, as a camera does before it makes a picture; dark current and fixed patterns are left out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.plant.srgb import LINEAR_LIGHT, to_srgb

__all__ = ["Exposure", "ImageSensor"]

Floats = npt.NDArray[np.float64]
Images = npt.NDArray[np.uint8]

WHITE_FROM = 250
"""A picture's values from here on count as saturated: read noise and JPEG take some of them a little below 255."""

MAX_WHITE_SHARE = 0.25
"""With more of its values saturated, a picture's mean tells too little."""


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """How long the shutter is open, in seconds, and the gain behind the pixel, at least 1 (1: a full well is white)."""

    seconds: float
    gain: float

    def __post_init__(self) -> None:
        if not 0.0 < self.seconds < math.inf:
            raise ValueError(f"seconds must be a finite number above 0, got {self.seconds:g}")
        if not 1.0 <= self.gain < math.inf:
            raise ValueError(f"gain must be finite and at least 1, got {self.gain:g}")


@dataclass(frozen=True, kw_only=True)
class ImageSensor:
    """A small CMOS camera.

    Attributes:
        electrons_per_lux_s: photo-electrons that a white surface under 1 lux gives a pixel in 1 s: lens, pixel area,
            colour filter and quantum efficiency in one number. 500: a lux second is 4100 photons/um2 (555 nm), of which
            a lens of f/2 passes 1/18, on 9 um2, a quarter of them caught behind a colour filter.
        full_well: electrons at which a pixel saturates.
        read_noise: standard deviation of reading, in electrons.
        max_exposure_s: longest exposure, which moving objects and the frame rate set.
        min_exposure_s: shortest exposure.
        max_gain: highest gain, at least 1.
        bits: of the converter, 8 to 16.
    """

    electrons_per_lux_s: float = 500.0
    full_well: float = 10_000.0
    read_noise: float = 3.0
    max_exposure_s: float = 1 / 60
    min_exposure_s: float = 1e-5
    max_gain: float = 64.0
    bits: int = 10

    def __post_init__(self) -> None:
        for name in ("electrons_per_lux_s", "full_well", "min_exposure_s"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        if not 0.0 <= self.read_noise < math.inf:
            raise ValueError(f"read_noise must be finite and not negative, got {self.read_noise:g}")
        if not self.min_exposure_s <= self.max_exposure_s < math.inf:
            raise ValueError(
                f"max_exposure_s must be finite and at least min_exposure_s {self.min_exposure_s:g}, "
                f"got {self.max_exposure_s:g}"
            )
        if not 1.0 <= self.max_gain < math.inf:
            raise ValueError(f"max_gain must be finite and at least 1, got {self.max_gain:g}")
        if not 8 <= self.bits <= 16:
            raise ValueError(f"bits must lie in [8, 16], got {self.bits}")

    @property
    def white_code(self) -> int:
        """The converter's highest code, which a picture shows as white."""
        return (1 << self.bits) - 1

    def codes_per_electron(self, exposure: Exposure) -> float:
        """The overall system gain K of EMVA 1288, in codes (DN) per electron."""
        return self.white_code * exposure.gain / self.full_well

    def exposure(self, lux: float) -> Exposure:
        """Auto-exposure: a white surface is just white, by time first and then by gain, as far as they go.

        Args:
            lux: illuminance of the scene, >= 0.
        """
        rate = self.electrons_per_lux_s * _checked_lux(lux)  # electrons a second from white
        wanted_s = self.full_well / rate if rate > 0.0 else math.inf
        seconds = min(max(wanted_s, self.min_exposure_s), self.max_exposure_s)
        gain = min(max(wanted_s / seconds, 1.0), self.max_gain)
        return Exposure(seconds=seconds, gain=gain)

    def codes(self, images: Images, lux: float, rng: np.random.Generator, exposure: Exposure) -> Floats:
        """The converter's codes above the dark level, whole numbers in [0, `white_code`], linear in light.

        Args:
            images: noiseless sRGB photographs of the scene in which 255 is a white surface; uint8, any shape.
            lux: illuminance of the scene, >= 0.
            rng: random source.
            exposure: time and gain.
        """
        white = self.electrons_per_lux_s * _checked_lux(lux) * exposure.seconds  # expected electrons
        expected = white * LINEAR_LIGHT[_checked_images(images)]
        held = np.minimum(rng.poisson(expected), self.full_well)
        read = held + self.read_noise * rng.standard_normal(expected.shape)
        return np.asarray(np.clip(np.rint(self.codes_per_electron(exposure) * read), 0.0, self.white_code))

    def capture(self, images: Images, lux: float, rng: np.random.Generator, exposure: Exposure | None = None) -> Images:
        """Show pictures as this sensor would see the scene at `lux`.

        Args:
            images: noiseless sRGB photographs of the scene in which 255 is a white surface; uint8, any shape.
            lux: illuminance of the scene, >= 0.
            rng: random source.
            exposure: a fixed exposure; None for auto-exposure.

        Returns:
            uint8 sRGB, same shape.
        """
        exposure = self.exposure(lux) if exposure is None else exposure
        return to_srgb(self.codes(images, lux, rng, exposure) / self.white_code)

    def estimate_lux(self, image: Images, exposure: Exposure, *, reflectance: float = 0.18) -> float | None:
        """Illuminance of a scene from a picture of it: the exposure model backwards.

        It is as good as the guess at the reflectance: a scene of twice that reads as twice the light. Highlights that
        saturate make it too low, by up to 0.1 stop where the scene's reflectances are spread evenly from black. In the
        dark, where noise below the dark level is cut off and makes the mean too high, that is undone for a scene of one
        grey; one of many greys reads up to 0.2 stop too bright.

        Args:
            image: a picture in sRGB, uint8, any shape.
            exposure: with which it was taken.
            reflectance: mean of the scene's, in (0, 1]; a scene is 18 % grey on average, as light meters assume.

        Returns:
            Lux. None where the picture cannot tell: more than a quarter of it is saturated, or it is so dark that its
            mean lies within the noise.

        Raises:
            ValueError: a reflectance outside (0, 1], or a picture that is empty or not uint8.
        """
        if not 0.0 < reflectance <= 1.0:
            raise ValueError(f"reflectance must lie in (0, 1], got {reflectance:g}")
        counts = np.bincount(_checked_images(image).ravel(), minlength=256)
        n_values = counts.sum()
        if n_values == 0:
            raise ValueError("image must not be empty")
        electrons_of_white = self.full_well / exposure.gain
        electrons = self._unclipped(float(counts @ LINEAR_LIGHT) / n_values * electrons_of_white)
        floor = self._floor(electrons_of_white, int(n_values))
        if counts[WHITE_FROM:].sum() > MAX_WHITE_SHARE * n_values or electrons <= floor:
            return None
        return float(electrons / (reflectance * self.electrons_per_lux_s * exposure.seconds))

    def _unclipped(self, electrons: float) -> float:
        """Mean electrons before noise was cut off at 0, from the mean after it; for one grey, by bisection."""
        if electrons > 40.0 + 16.0 * self.read_noise:  # hardly a pixel is near 0
            return electrons
        low, high = 0.0, electrons
        for _ in range(50):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if middle + self._cut_off(middle) < electrons else (low, middle)
        return low

    def _cut_off(self, electrons: float) -> float:
        """What cutting off at 0 adds to the mean: of each Poisson count k, mean of max(0, k + read noise) - k."""
        if self.read_noise == 0.0:
            return 0.0
        added, chance = 0.0, math.exp(-electrons)
        for k in range(math.ceil(8.0 * self.read_noise)):
            z = k / self.read_noise
            below = 0.5 * math.erfc(z / math.sqrt(2.0))
            added += chance * (self.read_noise * math.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi) - k * below)
            chance *= electrons / (k + 1)
        return added

    def _floor(self, electrons_of_white: float, n_values: int) -> float:
        """Mean electrons below which a picture may be of nothing, for all its noise and rounding tell."""
        step = electrons_of_white * max(1.0 / self.white_code, LINEAR_LIGHT[1])
        of_mean = 4.0 * self.read_noise / math.sqrt(n_values)
        return max(0.1 * self.read_noise, of_mean, 0.5 * float(step))


def _checked_lux(lux: float) -> float:
    if not 0.0 <= lux < math.inf:
        raise ValueError(f"lux must be finite and not negative, got {lux:g}")
    return lux


def _checked_images(images: Images) -> Images:
    if images.dtype != np.uint8:
        raise ValueError(f"images must be uint8, got {images.dtype}")
    return images
