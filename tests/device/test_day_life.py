"""A policy's day on the modelled device: energy, darkness, and the same answers for everybody."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.day_folder import CLASSES, LOSSLESS, PER_CLASS, write_day
from tnn_edge.camera import preprocess
from tnn_edge.control import ConstantPolicy, Governed, GovernorSettings
from tnn_edge.day import Answers, Life, Scenario, Scenes, Score, live_through, read_scenario
from tnn_edge.errors import SourceError
from tnn_edge.runtime import Engine


def constant(u: float) -> Governed[Any]:
    return Governed(ConstantPolicy(u=u), GovernorSettings(unknown_u=u))


def live(scenario: Scenario, engine: Engine, policy: Governed[Any] | None = None, seed: int = 7) -> Life:
    scenes = Scenes(scenario, engine.manifest, seed)
    answers = Answers(engine, scenes, scenario.images_per_period)
    chosen = next(iter(scenario.policies.values())) if policy is None else policy
    return live_through(chosen, scenario, scenes, answers)


@pytest.mark.parametrize("u", [0.0, 0.6, 1.0])
def test_energy_is_neither_made_nor_lost(engine: Engine, tiny_bundle: Path, tmp_path: Path, u: float) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    life = live(scenario, engine, constant(u))
    gone = life.load_wh.sum() + life.lost_wh.sum() + life.spilled_wh.sum()
    stored = (life.soc[-1] - life.start_soc) * 40.0
    assert gone + stored == pytest.approx(life.panel_wh.sum(), abs=1e-9)
    assert life.panel_wh.sum() > 20.0  # there was a day


def test_without_sun_a_battery_lasts_as_long_as_its_energy(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    battery = {"usable_wh": 40.0, "cut_off": 0.1, "reboot": 0.2, **LOSSLESS}
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, panel={"rated_w": 0.0}, battery=battery))
    life = live(scenario, engine, constant(1.0))
    score = Score.of(life, scenario)
    hours = (0.5 - 0.1) * 40.0 / (2.0 + 6.0)  # 2 h
    assert score.hours_dark == pytest.approx(24.0 - hours)
    assert score.frames_served == pytest.approx(hours * 3600 * 2)
    assert score.total_wh == pytest.approx(16.0)
    assert score.compute_wh == pytest.approx(6.0 * hours)
    assert score.lowest_soc == pytest.approx(0.1)
    assert score.final_soc == pytest.approx(0.1)
    assert np.isnan(life.u[3:]).all()
    assert life.reason[3:] == [None] * 21


def test_a_board_that_goes_dark_within_a_period_serves_a_part_of_it(
    engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    battery = {"usable_wh": 40.0, **LOSSLESS}
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, panel={"rated_w": 0.0}, battery=battery, start_soc=0.3))
    life = live(scenario, engine, constant(1.0))
    assert life.on_share[:3] == pytest.approx([1.0, 0.5, 0.0])  # 12 Wh at 8 W
    assert list(np.flatnonzero(life.is_brown_out)) == [1]
    right = life.right_share[0] + 0.5 * life.right_share[1]
    assert Score.of(life, scenario).seen_and_right == pytest.approx(right / 24.0)


def test_the_power_of_computing_follows_the_multiply_adds(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, battery={"usable_wh": 1000.0}))
    for u in (0.0, 0.3, 0.7, 1.0):
        life = live(scenario, engine, constant(u))
        share = engine.point_at(u).macs / engine.points[-1].macs
        assert life.load_wh == pytest.approx(np.full(24, 2.0 + 6.0 * share))
        assert life.compute_wh == pytest.approx(np.full(24, 6.0 * share))


def test_answers_equal_the_network_on_the_pictures(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    scenes = Scenes(scenario, engine.manifest, 7)
    life = live(scenario, engine, constant(0.5))
    for period in (0, 12, 23):
        n_right = 0
        for i in range(2):
            frame = scenes.frame(period, i)
            assert frame.image is not None
            logits = engine.run(preprocess(frame.image, engine.manifest.input), u=0.5).logits
            n_right += engine.manifest.labels[int(logits.argmax())] == frame.label
        assert life.right_share[period] == n_right / 2


def test_policies_of_one_throttle_see_the_same_answers(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    scenes = Scenes(scenario, engine.manifest, 7)
    answers = Answers(engine, scenes, scenario.images_per_period)
    first = live_through(constant(0.5), scenario, scenes, answers)
    live_through(constant(1.0), scenario, scenes, answers)  # somebody else in between changes nothing
    again = live_through(constant(0.5), scenario, scenes, answers)
    anew = live(scenario, engine, constant(0.5))
    for other in (again, anew):
        for name in ("u", "right_share", "soc", "load_wh", "observed_lux"):
            assert np.array_equal(getattr(first, name), getattr(other, name), equal_nan=True)


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


BY_LIGHT = """
[governor]
unknown_u = 0.5
[[rules]]
name = "unknown"
when = { lux = "unknown" }
u = 0.0
[[rules]]
name = "night"
when = { lux = { below = 120 } }
u = 0.0
[[rules]]
name = "day"
u = 1.0
"""


def test_a_policy_knows_light_from_the_pictures(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(
        tmp_path,
        tiny_bundle,
        policies={"light": BY_LIGHT},
        weather={"night_lux": 20.0},
        battery={"usable_wh": 1000.0},
        camera={"reflectance": 0.23},  # of these images at the network's size: between even noise, 0.36, and its mean
    )
    scenario = read_scenario(path)
    scenes = Scenes(scenario, engine.manifest, 7)
    life = live(scenario, engine)
    is_day = np.array([reason == "day" for reason in life.reason])
    assert is_day[scenes.lux > 200.0].all()
    assert not is_day[scenes.lux < 40.0].any()
    assert 8 < is_day.sum() < 16
    stops = np.log2(life.observed_lux / scenes.lux)
    assert np.abs(stops).max() < 0.25


BY_CONFIDENCE = """
[governor]
unknown_u = 0.5
[[rules]]
name = "no answer yet"
when = { confidence = "unknown" }
u = 0.0
[[rules]]
name = "answered"
u = 1.0
"""


def test_the_network_s_confidence_is_fed_back(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, policies={"c": BY_CONFIDENCE}, battery={"usable_wh": 1000.0})
    life = live(read_scenario(path), engine)
    assert life.reason == ["no answer yet", *["answered"] * 23]


@dataclass(frozen=True)
class Noting(ConstantPolicy):
    """Full throttle that notes when it begins anew."""

    begun: list[int] = field(default_factory=list)

    def initial_state(self, n: int) -> None:
        self.begun.append(n)


def test_a_board_that_comes_back_begins_anew(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, start_soc=0.2))
    policy = Noting(u=1.0)
    life = live(scenario, engine, Governed(policy, GovernorSettings(unknown_u=1.0)))
    is_on = [reason is not None for reason in life.reason]
    n_starts = sum(now and not before for before, now in zip([False, *is_on], is_on, strict=False))
    assert n_starts >= 2  # from midnight on battery, and again in the sun
    assert policy.begun == [1] * n_starts


def test_an_image_that_does_not_decode_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat" / "2.jpg").write_bytes(b"no image")
    with pytest.raises(SourceError, match=r"cat/2\.jpg: the image does not decode.*; replace or remove it"):
        live(read_scenario(path), engine)


def test_a_class_that_the_network_does_not_know_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat").rename(tmp_path / "images" / "unicorn")
    with pytest.raises(SourceError, match=r"the bundle knows no class 'unicorn'; name the folders .*: airplane, auto"):
        live(read_scenario(path), engine)


def test_an_image_without_a_class_is_named(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle)
    (tmp_path / "images" / "cat" / "2.jpg").rename(tmp_path / "images" / "2.jpg")
    with pytest.raises(SourceError, match=r"2\.jpg has no class; name a tree <class>/\*\.jpg"):
        live(read_scenario(path), engine)
