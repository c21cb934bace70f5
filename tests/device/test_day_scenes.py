"""What the camera of a modelled device sees: the order of the pictures, weather by seed, images that are none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.device.day_folder import CLASSES, PER_CLASS, write_day
from tnn_edge.day import Scenario, Scenes, read_scenario
from tnn_edge.errors import SourceError
from tnn_edge.runtime import Engine


def look(scenario: Scenario, engine: Engine) -> None:
    """See every picture of a day."""
    scenes = Scenes(scenario, engine.manifest, 7)
    for period in range(scenario.n_periods):
        for i in range(scenario.images_per_period):
            scenes.frame(period, i)


def test_another_seed_draws_other_weather_and_other_noise(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    one, other = (Scenes(scenario, engine.manifest, seed) for seed in (7, 8))
    noon = 12
    assert one.irradiance_w_m2[noon] != other.irradiance_w_m2[noon]
    assert one.lux[0] == other.lux[0] == 1.0
    same = {frame.name: frame for frame in (one.frame(0, i) for i in range(12))}
    twins = [(same[f.name].image, f.image) for f in (other.frame(0, i) for i in range(12)) if f.name in same]
    assert twins
    assert not any(np.array_equal(a, b) for a, b in twins if a is not None and b is not None)


def test_every_image_comes_up_equally_often(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    scenes = Scenes(scenario, engine.manifest, 7)
    n_images = len(CLASSES) * PER_CLASS
    names = [scenes.frame(period, i).name for period in range(24) for i in range(2)]
    passes = [names[i : i + n_images] for i in range(0, len(names), n_images)]
    assert len(passes) == 4
    assert all(len(set(each)) == n_images for each in passes)
    assert len({tuple(each) for each in passes}) == 4  # each in an order of its own


def test_the_day_begins_at_its_hour(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    midnight = read_scenario(write_day(tmp_path, tiny_bundle))
    morning = read_scenario(write_day(tmp_path, tiny_bundle, time={"start_hour": 6}))
    a, b = Scenes(midnight, engine.manifest, 7), Scenes(morning, engine.manifest, 7)
    assert np.array_equal(b.lux[:18] > 10.0, a.lux[6:] > 10.0)
    assert b.lux[:12].min() > 10.0 > b.lux[18:22].max()
    assert b.frame(0, 0).captured_at / 3600.0 == 6.0


def test_an_image_that_does_not_decode_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat" / "2.jpg").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"cat/2\.jpg: the image does not decode.*; replace or remove it"):
        look(read_scenario(path), engine)


def test_a_class_that_the_network_does_not_know_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat").rename(tmp_path / "images" / "unicorn")
    with pytest.raises(SourceError, match=r"the bundle knows no class 'unicorn'; name the folders .*: airplane, auto"):
        look(read_scenario(path), engine)


def test_an_image_without_a_class_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat" / "2.jpg").rename(tmp_path / "images" / "2.jpg")
    with pytest.raises(SourceError, match=r"2\.jpg has no class; name a tree <class>/\*\.jpg"):
        look(read_scenario(path), engine)
