"""What the device feeds the network is what training fed it, bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.ExifTags
import PIL.Image
import pytest

from tnn_edge.bundle import InputSpec
from tnn_edge.camera import ImageFolder, Preprocessor
from tnn_edge.nn.dataset import load_images, normalised

SIZE = 32
MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.247, 0.2435, 0.2616)


def photo(height: int, width: int) -> PIL.Image.Image:
    """Noise over a gradient: every filter that differs gives another picture."""
    noise = np.random.default_rng(height).integers(0, 128, (height, width, 3), dtype=np.uint8)
    gradient = np.linspace(0, 127, width, dtype=np.uint8).reshape(1, width, 1)
    return PIL.Image.fromarray(noise + gradient)


def exif(orientation: int) -> PIL.Image.Exif:
    tags = PIL.Image.Exif()
    tags[PIL.ExifTags.Base.Orientation] = orientation
    return tags


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A data folder: photos of several sizes, orientations, colour modes and formats."""
    folder = tmp_path / "test" / "cat"
    folder.mkdir(parents=True)
    for i, (height, width) in enumerate([(45, 61), (480, 640), (20, 31), (SIZE, SIZE), (SIZE, 90), (1, 1)]):
        photo(height, width).save(folder / f"size{i}.jpg")
    for orientation in range(1, 9):
        photo(40, 70).save(folder / f"turned{orientation}.jpg", exif=exif(orientation))
    for mode in ("L", "CMYK"):
        photo(50, 40).convert(mode).save(folder / f"{mode}.jpg")
    for mode in ("RGBA", "LA", "P", "1"):
        photo(50, 40).convert(mode).save(folder / f"{mode}.png")
    for suffix in ("png", "bmp", "webp", "ppm"):
        photo(50, 40).save(folder / f"format.{suffix}")
    return tmp_path


def test_the_device_makes_of_an_image_file_what_training_makes_of_it(tree: Path) -> None:
    trained_on = load_images(tree, "test", image_size=SIZE)
    expected = normalised(trained_on.images, MEAN, STD).numpy()
    preprocessor = Preprocessor(InputSpec(name="x", shape=(1, 3, SIZE, SIZE), mean=MEAN, std=STD))
    folder = ImageFolder(tree)
    assert folder.n_frames == len(trained_on) == 24
    for frame, name, x in zip(folder, trained_on.names, expected, strict=True):
        assert frame.name == name
        assert frame.image is not None, frame.error
        np.testing.assert_array_equal(preprocessor(frame.image)[0], x, err_msg=name)
