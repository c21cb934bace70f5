"""How well a network answers by how much light: a measured table, and what lies between its levels."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from tnn_edge.bundle.fields import Lux, Share, Strict, Text
from tnn_edge.errors import InputError

__all__ = ["LightTable", "spread_points"]

Floats = npt.NDArray[np.float64]


class LightTable(Strict):
    """Measured on held-out images as a modelled image sensor would see them.

    Between two levels a value is interpolated, linear in log10(lux). A light below the lowest or above the highest
    level was not measured: it is unknown, NaN, never extrapolated.

    Attributes:
        lux: illuminance of the scene at each level, rising.
        accuracy: share of right answers, [operating point][level].
        confidence: mean of the largest softmax, likewise.
        calibration_error: expected calibration error in 15 bins of equal width (Guo et al., "On Calibration of Modern
            Neural Networks", 2017), likewise.
        n_images: images behind each number.
        sensor: the numbers of the sensor model, which say what a lux means here.
    """

    lux: tuple[Lux, ...] = Field(min_length=1)
    accuracy: tuple[tuple[Share, ...], ...] = Field(min_length=1)
    confidence: tuple[tuple[Share, ...], ...]
    calibration_error: tuple[tuple[Share, ...], ...]
    n_images: int = Field(ge=1)
    sensor: dict[Text, float]

    @model_validator(mode="after")
    def _check_shape(self) -> LightTable:
        if list(self.lux) != sorted(set(self.lux)):
            raise ValueError("light levels must rise")
        for name in ("accuracy", "confidence", "calibration_error"):
            rows = getattr(self, name)
            if len(rows) != len(self.accuracy):
                raise ValueError(f"{name} has {len(rows)} operating points, accuracy {len(self.accuracy)}")
            for row in rows:
                if len(row) != len(self.lux):
                    raise ValueError(f"{name} has a row of {len(row)} values for {len(self.lux)} light levels")
        return self

    def accuracy_at(self, point_index: npt.ArrayLike, lux: npt.ArrayLike) -> Floats:
        """Accuracy of operating points by light.

        Args:
            point_index: position in the manifest's operating points, whole numbers of any shape.
            lux: illuminance of the scene, of a shape that broadcasts with it.

        Returns:
            Of the common shape; NaN where the light was not measured or is itself NaN.

        Raises:
            InputError: there is no such operating point.
        """
        return self._between(self._accuracy, point_index, lux)

    def confidence_at(self, point_index: npt.ArrayLike, lux: npt.ArrayLike) -> Floats:
        """Mean confidence of operating points by light; arguments, result and errors are those of `accuracy_at`."""
        return self._between(self._confidence, point_index, lux)

    @cached_property
    def _accuracy(self) -> Floats:
        return np.array(self.accuracy)

    @cached_property
    def _confidence(self) -> Floats:
        return np.array(self.confidence)

    def _between(self, table: Floats, point_index: npt.ArrayLike, lux: npt.ArrayLike) -> Floats:
        points, light = np.broadcast_arrays(point_index, np.asarray(lux, np.float64))
        n_points, n_levels = table.shape
        outside = points[(points < 0) | (points >= n_points)]
        if outside.size:
            raise InputError(f"point_index must lie in [0, {n_points - 1}], got {outside[0]}")
        is_measured = (light >= self.lux[0]) & (light <= self.lux[-1])  # false for NaN
        measured = np.where(is_measured, light, self.lux[0])
        position = np.interp(np.log10(measured), np.log10(self.lux), np.arange(n_levels))
        low = position.astype(np.intp)
        high = np.minimum(low + 1, n_levels - 1)
        share = position - low
        values = (1.0 - share) * table[points, low] + share * table[points, high]
        return np.where(is_measured, values, np.nan)


def spread_points(n_points: int, at_most: int = 6) -> list[int]:
    """Operating points that stand for all in a picture or a narrow table: the first, the last and some between."""
    return sorted({round(i) for i in np.linspace(0, n_points - 1, min(n_points, at_most)).tolist()})
