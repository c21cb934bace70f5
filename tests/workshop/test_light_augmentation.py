"""Training images seen by a sensor: how many, by which light, with which noise, and the same again with the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.workshop.conftest import colours, small_recipe
from tests.workshop.test_classifier import assert_identical, interrupt_at
from tests.workshop.test_recipe import GOOD as PLAIN
from tnn_edge.errors import RunError
from tnn_edge.nn.dataset import normalised
from tnn_edge.plant import ImageSensor, to_linear
from train.augmentation import seen_by_sensor
from train.classifier import train
from train.image_data import InMemoryImages
from train.processes import ALONE, Processes
from train.recipe import DataSettings, LightSettings, Recipe, read_recipe

DATA = {"image_size": 16, "mean": (0.4, 0.4, 0.4), "std": (0.25, 0.25, 0.25)}
STATS: dict[str, Any] = {"mean": DATA["mean"], "std": DATA["std"]}


def light(low: float, high: float, share: float = 1.0) -> LightSettings:
    return LightSettings(lux=(low, high), share=share)


def grey(n: int, value: int, size: int = 16) -> Tensor:
    return torch.full((n, 3, size, size), value, dtype=torch.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def with_light(recipe: Recipe, settings: LightSettings) -> Recipe:
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"light": settings})})


# --- what the images look like


def test_share_of_the_images_is_seen_by_the_sensor_and_the_others_stay() -> None:
    images = colours(600).images
    seen = seen_by_sensor(images, light(1.0, 100.0, share=0.3), generator())
    assert (seen.shape, seen.dtype) == (images.shape, torch.uint8)
    changed = (seen != images).flatten(1).any(dim=1)
    assert abs(float(changed.float().mean()) - 0.3) < 4 * (0.3 * 0.7 / 600) ** 0.5
    noise = (seen != images)[changed].float().flatten(1).mean(dim=1)
    assert noise.min() > 0.5  # an image is seen as a whole


def test_every_image_is_seen_where_the_share_is_one() -> None:
    images = colours(50).images
    seen = seen_by_sensor(images, light(1.0, 100.0), generator())
    assert (seen != images).flatten(1).any(dim=1).all()


def test_the_images_that_came_in_stay_as_they_are() -> None:
    images = colours(20).images
    before = images.clone()
    seen_by_sensor(images, light(1.0, 100.0), generator())
    assert torch.equal(images, before)


def test_noise_is_that_of_the_sensor() -> None:
    """EMVA 1288: in codes of the converter the variance is K^2 (mu + read noise^2) + 1/12."""
    lux, value, sensor = 60.0, 150, ImageSensor()
    exposure = sensor.exposure(lux)
    per_electron = sensor.codes_per_electron(exposure)
    electrons = lux * sensor.electrons_per_lux_s * exposure.seconds * float(to_linear(np.array(value, np.uint8)))
    seen = seen_by_sensor(grey(100, value), light(lux, lux), generator())
    codes = to_linear(seen.numpy()) * sensor.white_code
    assert codes.mean() == pytest.approx(per_electron * electrons, rel=0.005)
    variance = per_electron**2 * (electrons + sensor.read_noise**2) + 1 / 12
    assert codes.var() == pytest.approx(variance, rel=0.03)


def test_light_is_drawn_log_uniformly_for_each_image() -> None:
    """With time and gain at their ends a picture's brightness tells its light."""
    low, high, sensor = 2.0, 16.0, ImageSensor()
    exposure = sensor.exposure(high)
    assert (exposure.seconds, exposure.gain) == (sensor.max_exposure_s, sensor.max_gain)
    seen = seen_by_sensor(grey(500, 255), light(low, high), generator())
    electrons = to_linear(seen.numpy()).mean(axis=(1, 2, 3)) * sensor.full_well / exposure.gain
    lux = electrons / (sensor.electrons_per_lux_s * exposure.seconds)
    place = np.log(lux / low) / np.log(high / low)
    assert place.min() > -0.02
    assert place.max() < 1.02
    assert np.abs(np.sort(place) - np.linspace(0.0, 1.0, 500)).max() < 1.63 / 500**0.5  # Kolmogorov-Smirnov, 1 %


# --- seeds and resuming


def test_same_random_state_gives_the_same_pictures() -> None:
    images, settings = colours(30).images, light(1.0, 100.0, share=0.5)
    first, second, other = (seen_by_sensor(images, settings, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_every_batch_has_noise_of_its_own() -> None:
    images, source = colours(30).images, generator()
    first, second = (seen_by_sensor(images, light(1.0, 100.0), source) for _ in range(2))
    assert not torch.equal(first, second)


def test_processes_see_their_parts_of_what_one_sees() -> None:
    images, settings = colours(30).images, light(1.0, 100.0, share=0.5)
    whole = seen_by_sensor(images, settings, generator())
    for rank in range(3):
        one = Processes(rank, 3, ALONE.device)
        part = one.share(30)
        assert torch.equal(seen_by_sensor(images[part], settings, generator(), one), whole[part])


def test_resumed_training_with_light_ends_with_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe, data = with_light(small_recipe("resnet_d", epochs=2), light(1.0, 1000.0, share=0.5)), colours(96)
    train(recipe, data, tmp_path / "whole")  # 64 without the held-out: 2 steps an epoch
    with monkeypatch.context() as patch:
        interrupt_at(patch, 3)
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            train(recipe, data, tmp_path / "resumed")
    train(recipe, data, tmp_path / "resumed", resume=True)
    assert_identical(tmp_path / "resumed", tmp_path / "whole")


def test_batches_are_what_the_sensor_sees() -> None:
    settings = DataSettings.model_validate(
        {**DATA, "crop_padding": 0, "flip": False, "light": {"lux": [500.0, 500.0], "share": 1.0}}
    )
    data = colours(64)
    ((x, targets),) = InMemoryImages(data, settings).batches(0, 64, generator(3), ALONE)
    order = torch.randperm(64, generator=(source := generator(3)))
    assert settings.light is not None
    expected = seen_by_sensor(data.images[order], settings.light, source)
    assert torch.equal(x, normalised(expected, **STATS))
    assert torch.equal(targets, data.targets[order])


def test_without_light_an_epoch_draws_what_it_drew_before() -> None:
    settings = DataSettings.model_validate({**DATA, "crop_padding": 0, "flip": False})
    source, other = generator(), generator()
    list(InMemoryImages(colours(64), settings).batches(0, 32, source, ALONE))
    torch.randperm(64, generator=other)
    assert torch.equal(source.get_state(), other.get_state())


# --- the recipe

GOOD = PLAIN.replace("[optimiser]", "[data.light]\nlux = [1.0, 1000.0]\nshare = 0.25\n[optimiser]")


def read(folder: Path, text: str) -> Recipe:
    (folder / "recipe.toml").write_text(text)
    return read_recipe(folder / "recipe.toml")


def test_recipe_asks_for_light_and_its_record_keeps_it(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD)
    assert recipe.data.light == LightSettings(lux=(1.0, 1000.0), share=0.25)
    record = recipe.model_dump(mode="json")
    assert record["data"]["light"] == {"lux": [1.0, 1000.0], "share": 0.25}
    assert Recipe.model_validate(record) == recipe


def test_recipe_without_light_says_so_in_its_record(tmp_path: Path) -> None:
    recipe = read(tmp_path, GOOD.replace("[data.light]\nlux = [1.0, 1000.0]\nshare = 0.25\n", ""))
    record = recipe.model_dump(mode="json")
    assert record["data"]["light"] is None
    assert Recipe.model_validate(record) == recipe


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("lux = [1000.0, 1.0]", r"data\.light\.lux: .* two finite levels above 0 that do not fall, got \[1000, 1\]"),
        ("lux = [0.0, 1.0]", r"data\.light\.lux: .* above 0 that do not fall, got \[0, 1\]"),
        ("lux = [1.0, inf]", r"data\.light\.lux: .* got \[1, inf\]"),
        ("lux = [nan, 1.0]", r"data\.light\.lux: .* got \[nan, 1\]"),
        ("lux = [1.0]", r"data\.light\.lux\.1: Field required"),
        ("", r"data\.light\.lux: Field required"),
        ("lux = [1.0, 10.0]\nshare = 1.5", r"data\.light\.share: Input should be less than or equal to 1"),
        ("lux = [1.0, 10.0]\nshare = 0.0", r"data\.light\.share: Input should be greater than 0"),
        ("lux = [1.0, 10.0]\nlevel = 3", r"data\.light\.level: Extra inputs are not permitted"),
    ],
)
def test_fault_in_the_light_names_its_key(tmp_path: Path, bad: str, message: str) -> None:
    text = GOOD.replace("lux = [1.0, 1000.0]\nshare = 0.25", bad)
    with pytest.raises(RunError, match=r"recipe\.toml: " + message):
        read(tmp_path, text)
