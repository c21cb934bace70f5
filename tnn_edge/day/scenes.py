"""What the camera of a modelled device sees: the weather's light, and real images through the modelled sensor."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image

from tnn_edge.camera import Frame, ImageFolder
from tnn_edge.camera.frame import Image
from tnn_edge.errors import SourceError

if TYPE_CHECKING:
    from tnn_edge.bundle import Manifest
    from tnn_edge.day.scenario import Scenario

__all__ = ["DIM_LUX", "Scenes"]

DIM_LUX = 10.0
"""Below it, texts and pictures call a scene dim: noise costs a camera like this one much of what it sees."""

_WEATHER, _ORDER, _NOISE = range(3)
"""What random numbers are for; each has streams of its own, so that one does not shift the others."""

_KEPT = 1024
"""Photographs kept in memory."""


class Scenes:
    """Weather and pictures of one run. They hang on the scenario and the seed alone, so every policy meets the same.

    Photographs are brought to the network's size first: the modelled camera has as many pixels as the network reads.
    All of them come up equally often, in an order drawn anew for each pass.

    Args:
        scenario: what to draw.
        manifest: of the network, for its labels and its input's size.
        seed: of weather, order and noise.

    Raises:
        SourceError: no image, an image without a class, or one whose class the network does not know.
    """

    def __init__(self, scenario: Scenario, manifest: Manifest, seed: int) -> None:
        self._scenario = scenario
        self._seed = seed
        self._size = manifest.input.shape[3], manifest.input.shape[2]
        self._folder = ImageFolder(scenario.images)
        self._targets = self._folder.class_indices(manifest.labels)
        self._photograph = lru_cache(_KEPT)(self._read)
        self._passes = lru_cache(16)(self._draw_pass)
        self._first_frames: dict[int, Frame] = {}
        trace = scenario.weather.trace([self._rng(_WEATHER)], step_s=scenario.period_s)
        span = slice(scenario.first_period, scenario.first_period + scenario.n_periods)
        self.irradiance_w_m2 = trace.irradiance_w_m2[0, span]
        self.lux = trace.lux[0, span]
        self.air_c = trace.air_c[0, span]

    def target(self, period: int, i: int) -> int:
        """Class of image `i` of a period, as an index into the network's labels."""
        return self._targets[self._index(period, i)]

    def first_frame(self, period: int) -> Frame:
        """Image 0 of a period, kept: each policy looks at it to decide."""
        if period not in self._first_frames:
            self._first_frames[period] = self.frame(period, 0)
        return self._first_frames[period]

    def frame(self, period: int, i: int) -> Frame:
        """Image `i` of a period as the camera sees it, with the exposure that its automatic chose.

        Raises:
            SourceError: the image does not decode.
        """
        scenario = self._scenario
        index = self._index(period, i)
        lux = float(self.lux[period])
        exposure = scenario.sensor.exposure(lux)
        rng = self._rng(_NOISE, period, i)
        seconds = (period + i / scenario.images_per_period) * scenario.period_s
        return Frame(
            index=period * scenario.images_per_period + i,
            name=self._folder.name(index),
            captured_at=scenario.start_hour * 3600.0 + seconds,
            captured_s=seconds,
            image=scenario.sensor.capture(self._photograph(index), lux, rng, exposure),
            label=self._folder.label(index),
            exposure=exposure,
        )

    def _index(self, period: int, i: int) -> int:
        n_pass, place = divmod(period * self._scenario.images_per_period + i, len(self._targets))
        return self._passes(n_pass)[place]

    def _draw_pass(self, n_pass: int) -> list[int]:
        return [int(index) for index in self._rng(_ORDER, n_pass).permutation(len(self._targets))]

    def _read(self, index: int) -> Image:
        frame = self._folder.read(index)
        if frame.image is None:
            raise SourceError(f"{self._folder.paths[index]}: {frame.error}; replace or remove it")
        if frame.image.shape[1::-1] == self._size:
            return frame.image
        return np.asarray(PIL.Image.fromarray(frame.image).resize(self._size, PIL.Image.Resampling.BILINEAR), np.uint8)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence(self._seed, spawn_key=key))
