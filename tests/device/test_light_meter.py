"""The light meter: a scene's illuminance from its picture, or nothing where the picture cannot tell."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tnn_edge.camera import Frame, LightMeter
from tnn_edge.camera.frame import Image
from tnn_edge.plant import Exposure, ImageSensor, to_srgb

SENSOR = ImageSensor()
STOPS = [float(lux) for lux in 4.0 * 2.0 ** np.arange(0.0, 14.5, 1.0)]
"""4 lux, a lit street, to 65,000 lux, the sun at noon."""

FIXED = SENSOR.exposure(2000.0)
STOPS_IN_RANGE = [lux for lux in STOPS if 8.0 <= lux <= 2000.0]
"""What one exposure spans between its noise and its white."""


def scene(height: int, width: int) -> Image:
    """Random patches, brighter and brighter to the right and downwards, of 18 % mean reflectance."""
    rng = np.random.default_rng(height)
    patches = rng.uniform(0.2, 1.0, (-(-height // 8), -(-width // 8), 3))
    reflectances = patches.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    reflectances *= np.linspace(0.3, 1.0, width)[None, :, None] * np.linspace(0.5, 1.0, height)[:, None, None]
    return to_srgb(0.18 * reflectances / reflectances.mean())


def seen(lux: float, size: tuple[int, int], *, exposure: Exposure | None = None, says_exposure: bool = True) -> Frame:
    """A frame of the scene as the sensor sees it."""
    used = SENSOR.exposure(lux) if exposure is None else exposure
    image = SENSOR.capture(scene(*size), lux, np.random.default_rng(1), used)
    return picture(image, used if says_exposure else None)


def picture(image: Image, exposure: Exposure | None) -> Frame:
    return Frame(index=0, name="scene", captured_at=0.0, image=image, exposure=exposure)


def stops_off(lux: float | None, truth: float) -> float:
    assert lux is not None
    return abs(math.log2(lux / truth))


@pytest.mark.parametrize("size", [(48, 64), (31, 17), (1, 301), (240, 320)])
@pytest.mark.parametrize("lux", STOPS)
def test_light_is_right_within_half_a_stop_over_fourteen_stops(lux: float, size: tuple[int, int]) -> None:
    assert stops_off(LightMeter().lux(seen(lux, size)), lux) < 0.5


@pytest.mark.parametrize("lux", STOPS[::6])
def test_light_of_a_large_picture_is_right_within_half_a_stop(lux: float) -> None:
    frame = seen(lux, (720, 1280))
    estimate = LightMeter().lux(frame)
    assert stops_off(estimate, lux) < 0.5
    # A sample of the pixels tells what all of them tell.
    assert frame.image is not None
    assert frame.exposure is not None
    assert estimate == pytest.approx(SENSOR.estimate_lux(frame.image, frame.exposure), rel=0.01)


@pytest.mark.parametrize("lux", STOPS_IN_RANGE)
def test_light_under_a_fixed_exposure_is_right_within_half_a_stop(lux: float) -> None:
    frame = seen(lux, (48, 64), exposure=FIXED, says_exposure=False)
    assert stops_off(LightMeter(exposure=FIXED).lux(frame), lux) < 0.5
    assert STOPS_IN_RANGE[-1] / STOPS_IN_RANGE[0] >= 2**6


def test_the_frame_knows_its_exposure_better_than_the_settings() -> None:
    frame = seen(100.0, (48, 64))
    wrong = Exposure(seconds=1e-4, gain=1.0)
    assert LightMeter(exposure=wrong).lux(frame) == LightMeter().lux(frame)


def test_a_scene_of_another_reflectance_is_read_with_it() -> None:
    frame = seen(100.0, (48, 64))
    grey, snow = LightMeter().lux(frame), LightMeter(reflectance=0.72).lux(frame)
    assert grey is not None
    assert snow == pytest.approx(grey * 0.18 / 0.72)


def test_whether_an_exposure_is_known_does_not_hang_on_the_picture() -> None:
    dark = np.zeros((8, 8, 3), np.uint8)
    assert LightMeter().knows_exposure(picture(dark, FIXED))
    assert LightMeter(exposure=FIXED).knows_exposure(picture(dark, None))
    assert not LightMeter().knows_exposure(picture(dark, None))


def test_light_is_unknown_where_nothing_tells_it() -> None:
    failed = Frame(index=0, name="scene", captured_at=0.0, error="cable out", exposure=FIXED)
    unexposed = seen(100.0, (48, 64), says_exposure=False)
    black, white = (np.full((8, 8, 3), level, np.uint8) for level in (0, 255))
    overexposed = seen(60_000.0, (48, 64), exposure=FIXED)
    for frame in (failed, unexposed, picture(black, FIXED), picture(white, FIXED), overexposed):
        assert LightMeter().lux(frame) is None


@pytest.mark.parametrize("reflectance", [0.0, -0.1, 1.1, math.nan])
def test_a_reflectance_that_cannot_be_is_refused(reflectance: float) -> None:
    with pytest.raises(ValueError, match=rf"reflectance must lie in \(0, 1\], got {reflectance:g}"):
        LightMeter(reflectance=reflectance)


def test_a_large_picture_is_looked_at_in_part() -> None:
    exposure = Exposure(seconds=0.01, gain=1.0)
    image = np.full((1024, 1024, 3), 255, np.uint8)
    image[::4, ::4] = 100  # one pixel of 16: what 2^16 pixels of 2^20 are
    small = np.full((256, 256, 3), 100, np.uint8)
    frames = [Frame(index=0, name="", captured_at=0.0, image=each, exposure=exposure) for each in (image, small)]
    estimates = [LightMeter().lux(each) for each in frames]
    assert estimates[0] == estimates[1] is not None
