"""The network's input from a camera's pixels, against the formula and a slow plain resize."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from tnn_edge.bundle import InputSpec
from tnn_edge.camera import Preprocessor, preprocess
from tnn_edge.errors import InputError

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.247, 0.2435, 0.2616)

Floats = npt.NDArray[np.float64]


def make_spec(height: int, width: int) -> InputSpec:
    return InputSpec(name="x", shape=(1, 3, height, width), mean=MEAN, std=STD)


def make_image(height: int, width: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def triangle_resize(rows: Floats, n_out: int) -> Floats:
    """Resize the first axis, pixel by pixel: weights fall linearly to zero at the shrink factor (1 when enlarging)."""
    n_in = len(rows)
    reach = max(1.0, n_in / n_out)
    out = np.zeros((n_out, *rows.shape[1:]))
    for i in range(n_out):
        centre = (i + 0.5) * n_in / n_out - 0.5
        weights = [max(0.0, 1.0 - abs(j - centre) / reach) for j in range(n_in)]
        for j in range(n_in):
            out[i] += weights[j] / sum(weights) * rows[j]
    return out


def test_an_image_of_the_right_size_is_normalised_exactly_as_in_training() -> None:
    image = make_image(5, 7)
    rgb = image.transpose(2, 0, 1).astype(np.float32)
    mean, std = (np.array(values, np.float32).reshape(3, 1, 1) for values in (MEAN, STD))
    expected = (rgb / np.float32(255) - mean) / std
    x = preprocess(image, make_spec(5, 7))
    assert x.shape == (1, 3, 5, 7)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x[0], expected)


def test_colours_are_red_green_blue() -> None:
    blue = np.zeros((4, 4, 3), np.uint8)
    blue[:, :, 2] = 255
    x = preprocess(blue, make_spec(4, 4))
    np.testing.assert_allclose(x[0, 2], (1 - MEAN[2]) / STD[2], rtol=1e-6)
    np.testing.assert_allclose(x[0, 0], -MEAN[0] / STD[0], rtol=1e-6)


@pytest.mark.parametrize("size", [(40, 48), (8, 8), (7, 90), (33, 31), (1, 1), (32, 64)])
def test_resizing_equals_a_slow_plain_triangle_filter_but_for_its_rounding(size: tuple[int, int]) -> None:
    image = make_image(*size)
    by_rows = triangle_resize(image.astype(np.float64), 16)
    expected = triangle_resize(by_rows.transpose(1, 0, 2), 12).transpose(2, 1, 0)  # [3, 16, 12]
    spec = InputSpec(name="x", shape=(1, 3, 16, 12), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    # Pillow rounds to whole levels after each of its two passes.
    np.testing.assert_allclose(preprocess(image, spec)[0] * 255, expected, rtol=0, atol=1.01)


def test_an_image_that_is_a_view_of_a_larger_one_equals_its_copy() -> None:
    view = make_image(60, 80)[3:43:2, ::3, ::-1]
    spec = make_spec(8, 8)
    np.testing.assert_array_equal(preprocess(view, spec), preprocess(view.copy(), spec))


def test_the_input_array_is_reused_from_frame_to_frame() -> None:
    preprocessor = Preprocessor(make_spec(8, 8))
    first = preprocessor(make_image(8, 8))
    assert preprocessor(make_image(20, 30)) is first


def test_sizes_may_change_from_frame_to_frame() -> None:
    preprocessor = Preprocessor(make_spec(8, 8))
    for size in ((20, 30), (8, 8), (9, 9), (20, 30)):
        image = make_image(*size)
        np.testing.assert_array_equal(preprocessor(image), preprocess(image, make_spec(8, 8)))


def test_a_given_array_is_filled() -> None:
    batch = np.zeros((3, 3, 8, 8), np.float32)
    image = make_image(8, 8)
    Preprocessor(make_spec(8, 8))(image, out=batch[1:2])
    np.testing.assert_array_equal(batch[1:2], preprocess(image, make_spec(8, 8)))
    assert not batch[0].any()
    assert not batch[2].any()


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((0, 4, 3), np.uint8),
    ],
    ids=["grey", "float", "alpha", "empty"],
)
def test_another_kind_of_image_is_refused(image: npt.NDArray[np.uint8]) -> None:
    with pytest.raises(InputError, match=r"image must be uint8 of shape \[H, W, 3\], got (uint8|float32) of shape \("):
        preprocess(image, make_spec(4, 4))
