"""A camera that needs no hardware: a moving picture, seen through the modelled sensor."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from urllib.parse import parse_qsl

import numpy as np

from tnn_edge.camera.frame import Frame, FrameSource, Image
from tnn_edge.errors import SourceError
from tnn_edge.plant import ImageSensor, to_srgb

__all__ = ["SyntheticCamera"]

_SHIFT_PX = 4
_GREY = 0.18
"""Mean reflectance of the scene, that of the usual grey card."""

_MAX_PIXELS = 3840 * 2160

_SIZE = re.compile(r"(\d{1,4})x(\d{1,4})", re.ASCII)


class SyntheticCamera(FrameSource):
    """A scene of random patches that moves a little with each frame, as a small sensor sees it at some light.

    Args:
        fps: frames a second, > 0.
        width: in pixels.
        height: in pixels.
        n_frames: frames until it ends; None for no end.
        lux: illuminance of the scene.
        clock: seconds since the epoch.
        monotonic: seconds, monotonic.
        sleep: waits for some seconds.
    """

    is_live = True

    def __init__(
        self,
        *,
        fps: float = 30.0,
        width: int = 640,
        height: int = 480,
        n_frames: int | None = None,
        lux: float = 500.0,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not 0.0 < fps <= 1000.0:
            raise SourceError(f"test source: fps must lie in (0, 1000], got {fps:g}")
        if not (width >= 1 and height >= 1 and width * height <= _MAX_PIXELS):
            raise SourceError(f"test source: size must lie between 1x1 and {_MAX_PIXELS} pixels, got {width}x{height}")
        if not 0.0 <= lux <= 1e6:
            raise SourceError(f"test source: lux must lie in [0, 1000000], got {lux:g}")
        self.n_frames = n_frames
        self.description = f"test source of {fps:g} frames/s, {width} x {height}"
        self._period_s = 1.0 / fps
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self._width, self._height, self._lux = width, height, lux

    @classmethod
    def parse(cls, spec: str) -> SyntheticCamera:
        """Read `test:` or `test:?fps=30&size=640x480&frames=100&lux=500`; every option may be left out.

        Raises:
            SourceError: an unknown option, or a value that does not fit.
        """
        options = dict(parse_qsl(spec.removeprefix("test:").removeprefix("?"), keep_blank_values=True))
        try:
            size = _SIZE.fullmatch(options.pop("size", "640x480"))
            if size is None:
                raise ValueError("size is WIDTHxHEIGHT")
            fps, lux = float(options.pop("fps", 30.0)), float(options.pop("lux", 500.0))
            n_frames = int(options.pop("frames", 0))
            if n_frames < 0:
                raise ValueError("frames must not be negative")
        except ValueError as err:
            raise SourceError(f"{spec}: {err}; write for example test:?fps=30&size=640x480&frames=100&lux=500") from err
        if options:
            raise SourceError(
                f"{spec}: a test source has no option {', '.join(options)}; it has fps, size, frames and lux"
            )
        return cls(fps=fps, width=int(size[1]), height=int(size[2]), n_frames=n_frames or None, lux=lux)

    def __iter__(self) -> Iterator[Frame]:
        sensor = ImageSensor()
        rng = np.random.default_rng(0)
        exposure = sensor.exposure(self._lux)
        picture = sensor.capture(_scene(self._height, self._width, rng), self._lux, rng)
        start_s = self._monotonic()
        index = 0
        while self.n_frames is None or index < self.n_frames:
            wait_s = start_s + index * self._period_s - self._monotonic()
            if wait_s > 0.0:
                self._sleep(wait_s)
            captured_at, captured_s = self._clock(), self._monotonic()
            yield Frame(
                index=index,
                name="test",
                captured_at=captured_at,
                captured_s=captured_s,
                image=np.roll(picture, _SHIFT_PX * index, axis=1),
                exposure=exposure,
            )
            index += 1


def _scene(height: int, width: int, rng: np.random.Generator) -> Image:
    """Noiseless patches of 16 x 16 pixels whose mean reflectance is that of a grey card, shape [H, W, 3]."""
    rows, columns = -(-height // 16), -(-width // 16)
    patches = rng.uniform(0.0, 2.0 * _GREY, (rows, columns, 3))
    patches *= _GREY / patches.mean()
    return to_srgb(patches).repeat(16, axis=0).repeat(16, axis=1)[:height, :width]
