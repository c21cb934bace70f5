"""What the real network answers to each picture of a day, at every operating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tnn_edge.camera import Preprocessor
from tnn_edge.camera.pipeline import top_class

if TYPE_CHECKING:
    from tnn_edge.day.scenes import Scenes
    from tnn_edge.runtime import Engine

__all__ = ["Answers", "PeriodAnswers"]


@dataclass(frozen=True, eq=False, kw_only=True)
class PeriodAnswers:
    """The answers of one period, all of shape [images, operating points].

    Attributes:
        is_right: whether the largest logit is the image's class.
        confidence: its softmax probability.
        ms: time in the engine.
    """

    is_right: npt.NDArray[np.bool_]
    confidence: npt.NDArray[np.float64]
    ms: npt.NDArray[np.float64]


class Answers:
    """Runs the engine on a period's pictures when they are first asked for, and keeps what it said.

    Every picture runs at every operating point: then any policy's day can be replayed on the same answers. The throttle
    alone selects the point, as `Engine.point_at` does, also where the bundle has a gate network.

    Args:
        engine: loaded engine.
        scenes: the pictures.
        images_per_period: how many of them each period has.
    """

    def __init__(self, engine: Engine, scenes: Scenes, images_per_period: int) -> None:
        self._engine = engine
        self._scenes = scenes
        self._n_images = images_per_period
        self._preprocessor = Preprocessor(engine.manifest.input)
        self._periods: dict[int, PeriodAnswers] = {}
        self._index = {point.u: i for i, point in enumerate(engine.points)}
        macs = [point.macs for point in engine.points]
        self.macs_share = tuple(each / macs[-1] for each in macs)
        """Multiply-adds of each operating point over those at u = 1."""

    @property
    def points_u(self) -> tuple[float, ...]:
        """Lowest throttle of each operating point, rising."""
        return tuple(self._index)

    def point(self, u: float) -> int:
        """Index of the operating point that throttle u selects.

        Raises:
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        return self._index[self._engine.point_at(u).u]

    def of(self, period: int) -> PeriodAnswers:
        """The answers to a period's pictures."""
        if period not in self._periods:
            self._periods[period] = self._run(period)
        return self._periods[period]

    def _run(self, period: int) -> PeriodAnswers:
        shape = self._n_images, len(self._index)
        is_right, confidence, ms = np.empty(shape, np.bool_), np.empty(shape), np.empty(shape)
        for i in range(self._n_images):
            image = (self._scenes.frame(period, i) if i else self._scenes.first_frame(period)).image
            assert image is not None  # what does not decode raises
            x = self._preprocessor(image)
            target = self._scenes.target(period, i)
            for k, point in enumerate(self._engine.points):
                result = self._engine.run_point(x, point)
                top = top_class(result.logits)
                is_right[i, k] = top["index"] == target
                confidence[i, k] = top["confidence"]
                ms[i, k] = result.latency_ms
        return PeriodAnswers(is_right=is_right, confidence=confidence, ms=ms)
