"""The image sensor against the formulas of EMVA 1288, and the estimate of light from its pictures."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.plant import Exposure, ImageSensor, to_linear, to_srgb

Images = npt.NDArray[np.uint8]
LEVELS = np.arange(256, dtype=np.uint8)


def grey(reflectance: float, shape: tuple[int, ...] = (64, 64, 3)) -> Images:
    """A flat scene; its reflectance is the nearest that sRGB has."""
    return to_srgb(np.full(shape, reflectance))


def scene(name: str) -> Images:
    """Scenes of 18 % mean reflectance, but for the rounding of sRGB."""
    columns = np.arange(240)
    reflectance = {
        "flat": np.full(240, 0.18),
        "ramp": np.linspace(0.0, 0.36, 240),
        "bars": np.where(columns % 24 < 12, 0.0, 0.36),
    }[name]
    return to_srgb(np.broadcast_to(reflectance, (64, 240)))


def test_srgb_is_the_curve_of_its_standard() -> None:
    assert to_linear(LEVELS)[[0, 10, 255]] == pytest.approx([0, 10 / 255 / 12.92, 1])
    assert to_linear(np.array([188], np.uint8)) == pytest.approx(((188 / 255 + 0.055) / 1.055) ** 2.4)
    assert (np.diff(to_linear(LEVELS)) > 0).all()
    assert to_linear(np.array([118], np.uint8)) == pytest.approx(0.18, abs=0.002)  # a photographer's grey card


def test_every_srgb_value_survives_the_way_to_linear_light_and_back() -> None:
    np.testing.assert_array_equal(to_srgb(to_linear(LEVELS)), LEVELS)
    np.testing.assert_array_equal(to_srgb(np.array([-0.5, 1.5])), [0, 255])


@pytest.mark.parametrize(("gain", "read_noise", "white"), [(1.0, 3.0, 2000.0), (4.0, 20.0, 2000.0), (1.0, 0.0, 9000.0)])
def test_codes_have_the_mean_and_variance_of_emva_1288(gain: float, read_noise: float, white: float) -> None:
    sensor = ImageSensor(electrons_per_lux_s=100, full_well=10_000, read_noise=read_noise, bits=12)
    exposure = Exposure(seconds=0.01, gain=gain)
    k = gain * (2**12 - 1) / 10_000
    assert sensor.codes_per_electron(exposure) == pytest.approx(k)
    image = grey(0.18, (400, 500))
    codes = sensor.codes(image, white / (100 * 0.01), np.random.default_rng(1), exposure)
    mu_e = white * float(to_linear(image)[0, 0])
    variance = k**2 * (mu_e + read_noise**2) + 1 / 12
    n = codes.size
    assert codes.mean() == pytest.approx(k * mu_e, abs=4 * math.sqrt(variance / n))
    assert codes.var() == pytest.approx(variance, rel=4 * math.sqrt(2 / n))


def test_variance_grows_in_a_line_with_the_mean_and_its_slope_is_the_gain() -> None:
    sensor = ImageSensor(bits=14)
    exposure = Exposure(seconds=1 / 60, gain=2.0)
    rng = np.random.default_rng(2)
    white = np.full((300, 300), 255, np.uint8)
    lux = np.array([20, 60, 120, 240, 400])
    codes = [sensor.codes(white, float(x), rng, exposure) for x in lux]
    slope, offset = np.polyfit([c.mean() for c in codes], [c.var() for c in codes], 1)
    k = sensor.codes_per_electron(exposure)
    assert slope == pytest.approx(k, rel=0.02)
    assert offset == pytest.approx((k * sensor.read_noise) ** 2, abs=0.02 * codes[-1].var())


def test_in_darkness_only_the_upper_half_of_the_read_noise_is_left() -> None:
    sensor = ImageSensor(read_noise=5, bits=16)
    exposure = Exposure(seconds=0.01, gain=16.0)
    codes = sensor.codes(grey(0.5, (400, 400)), 0.0, np.random.default_rng(3), exposure)
    sigma = sensor.codes_per_electron(exposure) * 5
    assert codes.mean() == pytest.approx(sigma / math.sqrt(2 * math.pi), rel=0.02)
    assert (codes == 0).mean() == pytest.approx(0.5, abs=0.01)


def test_codes_are_whole_numbers_of_the_converters_range() -> None:
    sensor = ImageSensor(bits=8)
    codes = sensor.codes(np.tile(LEVELS, (20, 1)), 2000, np.random.default_rng(4), Exposure(seconds=1 / 60, gain=1.0))
    assert np.array_equal(codes, np.rint(codes))
    assert codes.min() >= 0
    assert codes.max() == 2**8 - 1


def test_a_full_well_holds_no_more_however_bright_the_light() -> None:
    # Reading comes after the well, so half of what is read lies below white, by half a normal distribution.
    sensor = ImageSensor(full_well=1000, read_noise=20, bits=14)
    exposure = Exposure(seconds=1 / 60, gain=1.0)
    codes = sensor.codes(np.full((200, 200), 255, np.uint8), 1e5, np.random.default_rng(5), exposure)
    sigma = sensor.codes_per_electron(exposure) * 20
    assert (codes == sensor.white_code).mean() == pytest.approx(0.5, abs=0.02)
    assert (sensor.white_code - codes).mean() == pytest.approx(sigma / math.sqrt(2 * math.pi), rel=0.03)


def test_at_high_gain_the_converter_saturates_before_the_well() -> None:
    sensor = ImageSensor(full_well=10_000, read_noise=0, electrons_per_lux_s=600)
    white = np.full((50, 50), 255, np.uint8)
    half = Exposure(seconds=1 / 60, gain=2.0)  # white is 4000 electrons, of which the converter counts 5000
    over = Exposure(seconds=1 / 60, gain=4.0)  # and now 2500
    assert (sensor.capture(white, 400, np.random.default_rng(6), half) < 255).all()
    assert (sensor.capture(white, 400, np.random.default_rng(6), over) == 255).all()


def test_exposure_lengthens_before_gain_rises() -> None:
    sensor = ImageSensor(electrons_per_lux_s=500, full_well=10_000, max_exposure_s=1 / 50, max_gain=16)
    assert vars(sensor.exposure(2000)) == pytest.approx({"seconds": 10_000 / (500 * 2000), "gain": 1})
    assert vars(sensor.exposure(1000)) == pytest.approx({"seconds": 1 / 50, "gain": 1})
    assert vars(sensor.exposure(250)) == pytest.approx({"seconds": 1 / 50, "gain": 4})
    assert vars(sensor.exposure(1)) == pytest.approx({"seconds": 1 / 50, "gain": 16})
    assert vars(sensor.exposure(0)) == pytest.approx({"seconds": 1 / 50, "gain": 16})


def test_in_too_much_light_the_exposure_is_the_shortest() -> None:
    sensor = ImageSensor(electrons_per_lux_s=500, full_well=10_000, min_exposure_s=1e-3)
    assert sensor.exposure(1e5) == Exposure(seconds=1e-3, gain=1)


@given(st.floats(0, 2e5))
def test_white_never_exceeds_the_well_nor_the_converter_under_auto_exposure(lux: float) -> None:
    sensor = ImageSensor()
    exposure = sensor.exposure(lux)
    electrons = sensor.electrons_per_lux_s * lux * exposure.seconds
    assert electrons * exposure.gain <= sensor.full_well * (1 + 1e-9)
    assert sensor.min_exposure_s <= exposure.seconds <= sensor.max_exposure_s
    assert 1 <= exposure.gain <= sensor.max_gain


def test_a_sensor_without_noise_gives_the_picture_back() -> None:
    ideal = ImageSensor(full_well=1e14, electrons_per_lux_s=1e14, read_noise=0, bits=16)
    image = np.random.default_rng(7).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    np.testing.assert_array_equal(ideal.capture(image, 1000, np.random.default_rng(7)), image)


def test_in_bright_light_a_picture_comes_back_within_its_shot_noise() -> None:
    sensor = ImageSensor()
    image = np.tile(np.arange(20, 236, dtype=np.uint8), (500, 1))
    error = sensor.capture(image, 20_000, np.random.default_rng(8)).astype(float) - image
    # Noise in light is the root of the electrons; the sRGB curve's slope makes it noise in values.
    light = to_linear(image[0])
    slope = np.gradient(image[0].astype(float), light)
    codes_step = 1 / (2**sensor.bits - 1)
    sigma = slope * np.sqrt(
        (light * sensor.full_well + sensor.read_noise**2) / sensor.full_well**2 + codes_step**2 / 12
    )
    np.testing.assert_allclose(error.std(axis=0), np.sqrt(sigma**2 + 1 / 12), rtol=0.25)
    assert np.abs(error).mean() < 1.5
    assert np.abs(error.mean(axis=0)).max() < 0.5


def test_less_light_is_more_noise() -> None:
    sensor = ImageSensor()
    image = grey(0.18, (100, 100))
    spread = [float(sensor.capture(image, lux, np.random.default_rng(9)).std()) for lux in (10_000, 100, 30, 20)]
    assert spread == sorted(spread)
    assert spread[-1] > 5 * spread[0]


def test_darkness_is_noise_that_knows_nothing_of_the_picture() -> None:
    sensor = ImageSensor()
    image = np.where(np.arange(200) < 100, 0, 255).astype(np.uint8) * np.ones((200, 1), np.uint8)
    picture = sensor.capture(image, 0.0, np.random.default_rng(10)).astype(float)
    black, white = picture[:, :100], picture[:, 100:]
    assert black.std() > 10
    assert black.mean() == pytest.approx(white.mean(), abs=4 * picture.std() * math.sqrt(2 / black.size))


def test_beyond_the_last_gain_the_picture_grows_dark() -> None:
    sensor = ImageSensor()
    darkest_lux = sensor.full_well / (sensor.electrons_per_lux_s * sensor.max_exposure_s * sensor.max_gain)
    image = grey(0.5, (100, 100))
    light = [
        float(to_linear(sensor.capture(image, darkest_lux / stop, np.random.default_rng(11))).mean()) for stop in (1, 4)
    ]
    assert light[0] == pytest.approx(0.5, rel=0.03)
    assert light[1] == pytest.approx(0.5 / 4, rel=0.05)


def test_one_seed_gives_one_picture_in_the_shape_of_the_scene() -> None:
    sensor = ImageSensor()
    image = np.random.default_rng(12).integers(0, 256, (2, 5, 7, 3), dtype=np.uint8)
    first, again, other = (sensor.capture(image, 50, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert first.shape == image.shape
    assert first.dtype == np.uint8
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("name", ["flat", "ramp", "bars"])
@pytest.mark.parametrize("gain", [1.0, 16.0])
def test_under_a_fixed_exposure_light_is_told_within_half_a_stop_over_6_stops(name: str, gain: float) -> None:
    sensor, rng = ImageSensor(), np.random.default_rng(13)
    exposure = Exposure(seconds=1 / 60, gain=gain)
    brightest_lux = sensor.full_well / (sensor.electrons_per_lux_s * exposure.seconds * gain)
    stops = -np.arange(0, 6.5, 0.5) if gain == 1.0 else -np.arange(0, 4.5, 0.5)
    for lux in brightest_lux * 2.0**stops:
        estimate = sensor.estimate_lux(sensor.capture(scene(name), lux, rng, exposure), exposure)
        assert estimate is not None
        assert abs(math.log2(estimate / lux)) < 0.5


@pytest.mark.parametrize("name", ["flat", "ramp", "bars"])
def test_under_auto_exposure_light_is_told_from_sunlight_to_a_street_lamp(name: str) -> None:
    sensor, rng = ImageSensor(), np.random.default_rng(14)
    for lux in 100_000 * 2.0 ** -np.arange(0, 14):
        estimate = sensor.estimate_lux(sensor.capture(scene(name), lux, rng), sensor.exposure(lux))
        assert estimate is not None
        assert abs(math.log2(estimate / lux)) < (0.05 if lux > 100 else 0.5)


@pytest.mark.parametrize(("name", "stops"), [("flat", 0.2), ("ramp", 0.15), ("bars", 0.25)])
def test_in_the_dark_the_noise_that_is_cut_off_is_undone(name: str, stops: float) -> None:
    sensor, rng = ImageSensor(), np.random.default_rng(17)
    for lux in (0.5, 1.0, 2.0, 4.0):
        picture = sensor.capture(scene(name), lux, rng)
        exposure = sensor.exposure(lux)
        electrons = float(to_linear(picture).mean()) * sensor.full_well / exposure.gain
        as_read = electrons / (0.18 * sensor.electrons_per_lux_s * exposure.seconds)
        estimate = sensor.estimate_lux(picture, exposure)
        assert estimate is not None
        assert abs(math.log2(estimate / lux)) < stops
        assert as_read > (1.2 if lux <= 1.0 else 1.0) * estimate


@pytest.mark.parametrize("bits", [8, 10, 16])
@pytest.mark.parametrize("read_noise", [0.0, 3.0, 30.0])
@pytest.mark.parametrize("gain", [1.0, 64.0])
def test_an_answer_is_never_out_by_more_than_half_a_stop(bits: int, read_noise: float, gain: float) -> None:
    sensor, rng = ImageSensor(bits=bits, read_noise=read_noise), np.random.default_rng(15)
    exposure = Exposure(seconds=1 / 60, gain=gain)
    answers = []
    for name in ("flat", "ramp", "bars"):
        for lux in 1200 / gain * 2.0 ** np.arange(-12, 5):
            estimate = sensor.estimate_lux(sensor.capture(scene(name), lux, rng, exposure), exposure)
            answers.append(estimate)
            assert estimate is None or abs(math.log2(estimate / lux)) < 0.5
    assert None in answers
    assert len(set(answers)) > 6


def test_the_mean_of_the_scene_is_taken_as_it_is_given() -> None:
    sensor, exposure = ImageSensor(), Exposure(seconds=1 / 500, gain=1.0)
    snow = grey(0.8)
    picture = sensor.capture(snow, 5000, np.random.default_rng(16), exposure)
    assert sensor.estimate_lux(picture, exposure, reflectance=0.8) == pytest.approx(5000, rel=0.02)
    assert sensor.estimate_lux(picture, exposure) == pytest.approx(5000 * 0.8 / 0.18, rel=0.02)


def test_an_estimate_is_the_exposure_model_backwards() -> None:
    sensor = ImageSensor(electrons_per_lux_s=400, full_well=8000)
    picture = np.full((4, 4, 3), 118, np.uint8)
    electrons = float(to_linear(picture)[0, 0, 0]) * 8000 / 2
    estimate = sensor.estimate_lux(picture, Exposure(seconds=0.01, gain=2.0), reflectance=0.25)
    assert estimate == pytest.approx(electrons / (400 * 0.01 * 0.25))


@pytest.mark.parametrize(("lux", "what"), [(50_000.0, "saturated"), (0.5, "black"), (0.0, "black")])
def test_a_saturated_picture_and_a_black_one_tell_nothing(lux: float, what: str) -> None:
    sensor, exposure = ImageSensor(), Exposure(seconds=1 / 60, gain=1.0)
    picture = sensor.capture(scene("ramp"), lux, np.random.default_rng(17), exposure)
    assert (picture > 250).mean() > 0.9 if what == "saturated" else (picture < 5).mean() > 0.9
    assert sensor.estimate_lux(picture, exposure) is None


def test_in_darkness_even_the_highest_gain_tells_nothing() -> None:
    sensor = ImageSensor()
    picture = sensor.capture(scene("flat"), 0.0, np.random.default_rng(18))
    assert picture.mean() > 10  # it is full of noise, not black
    assert sensor.estimate_lux(picture, sensor.exposure(0.0)) is None


@pytest.mark.parametrize(
    ("n_bright", "value", "tells"), [(25, 255, True), (26, 255, False), (26, 250, False), (26, 249, True)]
)
def test_up_to_a_quarter_of_a_picture_may_be_saturated_or_nearly(n_bright: int, value: int, tells: bool) -> None:
    picture = np.full(100, 100, np.uint8)
    picture[:n_bright] = value
    estimate = ImageSensor().estimate_lux(picture, Exposure(seconds=1 / 60, gain=1.0))
    assert (estimate is not None) == tells


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"electrons_per_lux_s": 0}, r"electrons_per_lux_s must be a finite number above 0, got 0$"),
        ({"full_well": math.inf}, r"full_well must be a finite number above 0, got inf$"),
        ({"min_exposure_s": -1}, r"min_exposure_s must be a finite number above 0, got -1$"),
        ({"read_noise": -1}, r"read_noise must be finite and not negative, got -1$"),
        (
            {"min_exposure_s": 0.1, "max_exposure_s": 0.01},
            r"max_exposure_s must be finite and at least min_exposure_s 0\.1, got 0\.01$",
        ),
        ({"max_exposure_s": math.inf}, r"max_exposure_s must be finite and at least min_exposure_s 1e-05, got inf$"),
        ({"max_gain": 0.5}, r"max_gain must be finite and at least 1, got 0\.5$"),
        ({"bits": 7}, r"bits must lie in \[8, 16\], got 7$"),
    ],
)
def test_a_sensor_that_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ImageSensor(**options)


@pytest.mark.parametrize(
    ("seconds", "gain", "message"),
    [
        (0.0, 1.0, r"seconds must be a finite number above 0, got 0$"),
        (math.nan, 1.0, r"seconds must be a finite number above 0, got nan$"),
        (0.01, 0.5, r"gain must be finite and at least 1, got 0\.5$"),
        (0.01, math.inf, r"gain must be finite and at least 1, got inf$"),
    ],
)
def test_an_exposure_that_cannot_be_is_refused(seconds: float, gain: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Exposure(seconds=seconds, gain=gain)


@pytest.mark.parametrize("lux", [-1.0, math.inf, math.nan])
def test_an_illuminance_that_cannot_be_is_refused(lux: float) -> None:
    sensor, rng = ImageSensor(), np.random.default_rng(0)
    message = rf"lux must be finite and not negative, got {lux:g}$"
    with pytest.raises(ValueError, match=message):
        sensor.exposure(lux)
    with pytest.raises(ValueError, match=message):
        sensor.capture(LEVELS, lux, rng)
    with pytest.raises(ValueError, match=message):
        sensor.codes(LEVELS, lux, rng, Exposure(seconds=0.01, gain=1.0))


def test_a_picture_that_cannot_be_is_refused() -> None:
    sensor, exposure = ImageSensor(), Exposure(seconds=0.01, gain=1.0)
    floats: Any = np.zeros((4, 4))
    with pytest.raises(ValueError, match=r"images must be uint8, got float64$"):
        sensor.capture(floats, 100, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"images must be uint8, got float64$"):
        sensor.estimate_lux(floats, exposure)
    with pytest.raises(ValueError, match=r"image must not be empty$"):
        sensor.estimate_lux(np.zeros((0, 4), np.uint8), exposure)
    for reflectance in (0.0, 18.0, math.nan):
        with pytest.raises(ValueError, match=rf"reflectance must lie in \(0, 1\], got {reflectance:g}$"):
            sensor.estimate_lux(LEVELS, exposure, reflectance=reflectance)
