"""How bright the scene is, from the camera's own pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from tnn_edge.camera.frame import Frame
from tnn_edge.plant import Exposure, ImageSensor

__all__ = ["LightMeter"]

_MAX_PIXELS = 1 << 16
"""More of a picture than this tell its mean no better, and cost milliseconds."""


@dataclass(frozen=True, kw_only=True)
class LightMeter:
    """Illuminance from a picture and its exposure, by the sensor's model backwards.

    Attributes:
        sensor: the camera's sensor.
        exposure: of pictures whose source does not say how they were exposed; None where nobody knows.
        reflectance: mean of the scene's, in (0, 1]; 18 % grey as light meters assume.
    """

    sensor: ImageSensor = field(default_factory=ImageSensor)
    exposure: Exposure | None = None
    reflectance: float = 0.18

    def __post_init__(self) -> None:
        if not 0.0 < self.reflectance <= 1.0:
            raise ValueError(f"reflectance must lie in (0, 1], got {self.reflectance:g}")

    def knows_exposure(self, frame: Frame) -> bool:
        """Whether anybody says how the frame was exposed."""
        return (frame.exposure or self.exposure) is not None

    def lux(self, frame: Frame) -> float | None:
        """Illuminance of the scene in lux; None where the picture or its exposure cannot tell."""
        exposure = frame.exposure or self.exposure
        if frame.image is None or exposure is None:
            return None
        height, width = frame.image.shape[:2]
        step = max(1, math.isqrt(height * width // _MAX_PIXELS))
        return self.sensor.estimate_lux(frame.image[::step, ::step], exposure, reflectance=self.reflectance)
