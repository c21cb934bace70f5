"""Scores, the best constant, and the tables that show them."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.day_folder import HALF, write_day
from tnn_edge.control import ConstantPolicy, Governed, GovernorSettings
from tnn_edge.day import (
    Answers,
    Contest,
    Life,
    Scenario,
    Scenes,
    Score,
    as_json,
    hold_contest,
    live_through,
    mean_score,
    read_scenario,
)
from tnn_edge.day.table import HEADINGS, mean_rows, rows
from tnn_edge.runtime import Engine


def scarce(folder: Path, bundle: Path, **changes: Any) -> Scenario:
    """A day on which the larger constants go dark."""
    return read_scenario(write_day(folder, bundle, **{"battery": {"usable_wh": 50.0}, "start_soc": 0.8, **changes}))


def plain_best(scenario: Scenario, engine: Engine, seed: int) -> float | None:
    """The best constant by a loop over everything: u, periods, images."""
    scenes = Scenes(scenario, engine.manifest, seed)
    answers = Answers(engine, scenes, scenario.images_per_period)
    best: tuple[float, float] | None = None
    for point in engine.points:
        policy = Governed(ConstantPolicy(u=point.u), GovernorSettings(unknown_u=point.u))
        life = live_through(policy, scenario, scenes, answers)
        n_right, is_dark = 0.0, False
        for period in range(scenario.n_periods):
            is_dark |= life.on_share[period] < 1.0
            for right in answers.of(period).is_right[:, answers.point(point.u)]:
                n_right += float(right)
        if not is_dark and (best is None or n_right > best[1]):
            best = point.u, n_right
    return None if best is None else best[0]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_best_constant_is_the_best_that_survives(
    engine: Engine, tiny_bundle: Path, tmp_path: Path, seed: int
) -> None:
    scenario = scarce(tmp_path, tiny_bundle)
    contest = hold_contest(scenario, engine, seed=seed)
    best = contest.best_constant
    assert best is not None
    assert best.u == plain_best(scenario, engine, seed)
    assert not contest.constants[-1].score.survives  # full throttle does not: there was a choice to make
    assert [entry.u for entry in contest.constants] == [*(point.u for point in engine.points[:-1]), 1.0]


def test_without_a_surviving_constant_the_table_says_so(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    contest = hold_contest(scarce(tmp_path, tiny_bundle, panel={"rated_w": 0.0}), engine, seed=1)
    assert contest.best_constant is None
    assert rows(contest)[2] == ["best constant u: none survives", *["-"] * (len(HEADINGS) - 1)]
    assert mean_rows([contest, contest])[2][0] == "best constant u: none survives"
    assert as_json([contest])["seeds"][0]["rows"][2] == {"name": "best constant u", "u": None, "score": None}


def with_constants(contest: Contest, *constants: tuple[float, float, bool]) -> Contest:
    """The same with other constants: u, share of frames seen and right, whether it survives."""
    entries = []
    for u, right, survives in constants:
        score = replace(contest.constants[0].score, seen_and_right=right)
        served = score.frames if survives else 0.9 * score.frames
        entries.append(replace(contest.constants[0], u=u, score=replace(score, frames_served=served)))
    return replace(contest, constants=tuple(entries))


@pytest.fixture
def contest(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Contest:
    return hold_contest(scarce(tmp_path, tiny_bundle), engine, seed=1)


def test_more_right_answers_are_better_than_a_higher_throttle(contest: Contest) -> None:
    best = with_constants(contest, (0.0, 0.3, True), (0.5, 0.5, True), (0.7, 0.4, True), (1.0, 0.9, False))
    assert best.best_constant is not None
    assert best.best_constant.u == 0.5


def test_a_mean_with_a_seed_that_nobody_survives_has_no_best_constant(contest: Contest) -> None:
    some = with_constants(contest, (0.25, 0.5, True), (1.0, 0.9, False))
    none = with_constants(contest, (0.25, 0.5, False), (1.0, 0.9, False))
    row = mean_rows([some, none, some])[2]
    assert row == ["best constant u = 0.25, none in 1 of 3 seeds", *["-"] * (len(HEADINGS) - 1)]
    assert as_json([some, none])["mean"][2] == {"name": "best constant u", "score": None}


def test_best_constants_of_several_seeds_are_a_range(contest: Contest) -> None:
    low, high = (with_constants(contest, (u, 0.5, True), (1.0, 0.9, False)) for u in (0.25, 0.5))
    assert mean_rows([low, low])[2][0] == "best constant u = 0.25"
    assert mean_rows([high, low, high])[2][0] == "best constant u = 0.25 to 0.50"


def test_the_table_has_first_policy_full_throttle_best_constant_and_the_others(
    engine: Engine, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = write_day(tmp_path, tiny_bundle, policies={"mine": HALF, "yours": HALF}, battery={"usable_wh": 1000.0})
    contest = hold_contest(read_scenario(path), engine, seed=1)
    table = rows(contest)
    best = contest.best_constant
    assert best is not None
    assert [row[0] for row in table] == ["mine", "always u = 1", f"best constant u = {best.u:.2f}", "yours"]
    assert table[0][1:] == table[3][1:]  # the same policy under two names
    assert table[1][1:3] == ["172,800", f"{100 * contest.constants[-1].score.seen_and_right:.1f} %"]


def test_a_seed_repeats_itself(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = scarce(tmp_path, tiny_bundle)
    one, again, other = (as_json([hold_contest(scenario, engine, seed=seed)])["seeds"][0] for seed in (1, 1, 2))
    for result in (one, again, other):
        assert len(result.pop("mean_ms")) == len(engine.points)  # measured, so never twice the same
    assert one == again
    assert {**one, "seed": 2} != other


def life_of(n_periods: int, **arrays: list[float]) -> Life:
    life = Life.before(n_periods, 0.5)
    life.reason.extend([None] * n_periods)
    return replace(life, **{name: np.array(values) for name, values in arrays.items()})  # type: ignore[arg-type]


def test_a_score_equals_the_sums_by_hand(tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))  # 2 frames a second, periods of an hour
    life = life_of(
        3,
        u=[0.5, 1.0, math.nan],
        on_share=[1.0, 0.5, 0.0],
        right_share=[0.5, 1.0, 0.0],
        soc=[0.4, 0.02, 0.3],
        load_wh=[4.0, 3.0, 0.0],
        compute_wh=[2.0, 2.0, 0.0],
        is_brown_out=[False, True, False],
    )
    score = Score.of(life, scenario)
    assert score == Score(
        frames=3 * 7200.0,
        frames_served=1.5 * 7200.0,
        accuracy=(0.5 + 0.5) / 1.5,
        seen_and_right=(0.5 + 0.5) / 3,
        compute_wh=4.0,
        total_wh=7.0,
        mean_u=(0.5 + 0.5 * 1.0) / 1.5,
        hours_dark=1.5,
        lowest_soc=0.0,  # the cut-off, though the period ended a little above
        final_soc=0.3,
    )
    assert not score.survives


def test_a_day_without_power_has_no_accuracy(tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    zeros = {name: [0.0, 0.0] for name in ("on_share", "right_share", "soc", "load_wh", "compute_wh")}
    score = Score.of(life_of(2, u=[math.nan, math.nan], **zeros), scenario)
    assert (score.accuracy, score.mean_u, score.seen_and_right, score.hours_dark) == (None, None, 0.0, 2.0)


def score_of(value: float | None) -> Score:
    return Score(**{field.name: value for field in fields(Score)})  # type: ignore[arg-type]


def test_a_mean_is_taken_attribute_by_attribute() -> None:
    assert mean_score([score_of(1.0), score_of(2.0), score_of(6.0)]) == score_of(3.0)
    assert mean_score([score_of(1.0), replace(score_of(2.0), accuracy=None)]) == replace(score_of(1.5), accuracy=None)


def test_the_first_policy_alone_is_shown_while_it_runs(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, policies={"mine": HALF, "yours": HALF})
    seen: list[int] = []
    contest: Contest = hold_contest(
        read_scenario(path), engine, seed=1, on_period=lambda life, scenes: seen.append(life.n_done)
    )
    assert seen == list(range(1, 25))
    assert contest.seed == 1
