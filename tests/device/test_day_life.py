"""A policy's day on the modelled device: energy, darkness, and the same answers for everybody."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.day_folder import LOSSLESS, write_day
from tnn_edge.camera import preprocess
from tnn_edge.control import ConstantPolicy, Decision, Governed, GovernorSettings, Observation, Rule, RulePolicy, Within
from tnn_edge.day import Answers, Life, Scenario, Scenes, Score, live_through, read_scenario
from tnn_edge.runtime import Engine


def constant(u: float) -> Governed[Any]:
    return Governed(ConstantPolicy(u=u), GovernorSettings(unknown_u=u))


def on_day(day: int) -> Within:
    return Within(signal="day_of_year", enter_low=day, enter_high=day + 1, leave_low=day, leave_high=day + 1)


def live(scenario: Scenario, engine: Engine, policy: Governed[Any] | None = None, seed: int = 7) -> Life:
    scenes = Scenes(scenario, engine.manifest, seed)
    answers = Answers(engine, scenes, scenario.images_per_period)
    chosen = next(iter(scenario.policies.values())) if policy is None else policy
    return live_through(chosen, scenario, scenes, answers)


def test_a_policy_sees_the_date_of_the_scenario_run_over_new_year(
    engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    site, weather = {"latitude_deg": 47.0, "day_of_year": 365}, {"clearness": [0.6] * 3}
    changes: dict[str, Any] = {
        "site": site,
        "weather": weather,
        "time": {"start_hour": 12},
        "battery": {"usable_wh": 900.0},
    }
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, **changes))
    rules = [Rule(name=f"day_{day}", when=(on_day(day),), u=0.0) for day in (365, 366, 1, 2)]
    policy = Governed(RulePolicy([*rules, Rule(name="other", u=0.0)]), GovernorSettings(unknown_u=0.0))
    life = live(scenario, engine, policy)
    assert life.reason == ["day_365"] * 12 + ["day_366"] * 24 + ["day_1"] * 24 + ["day_2"] * 12


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
    answers = Answers(engine, scenes, scenario.images_per_period)
    point = answers.point(0.5)
    for period in (0, 12, 23):
        n_right = 0
        for i in range(2):
            frame = scenes.frame(period, i)
            assert frame.image is not None
            logits = engine.run(preprocess(frame.image, engine.manifest.input), u=0.5).logits
            softmax = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
            assert answers.of(period).confidence[i, point] == pytest.approx(softmax.max(), rel=1e-5)
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
class Listening(ConstantPolicy):
    """Half throttle that notes how sure the network was."""

    heard: list[float] = field(default_factory=list)

    def decide(self, observation: Observation, state: None) -> tuple[Decision, None]:
        self.heard.append(float(observation["confidence"][0]))
        return super().decide(observation, state)


def test_confidence_is_averaged_over_a_period(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, battery={"usable_wh": 1000.0}))
    policy = Listening(u=0.5)
    live(scenario, engine, Governed(policy, GovernorSettings(unknown_u=0.5)))
    answers = Answers(engine, Scenes(scenario, engine.manifest, 7), 2)
    averages, average = [math.nan], math.nan
    for period in range(23):
        for confidence in answers.of(period).confidence[:, answers.point(0.5)]:  # one every half hour
            share = 1.0 if math.isnan(average) else 1.0 - math.exp(-0.5)
            average = (1.0 - share) * (0.0 if share == 1.0 else average) + share * float(confidence)
        averages.append(average)
    assert policy.heard == pytest.approx(averages, rel=1e-5, nan_ok=True)


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
