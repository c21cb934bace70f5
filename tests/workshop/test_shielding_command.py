"""The study of the shield: which brown-outs were avoidable, and every policy without and with it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tnn_edge.control import Observation
from tnn_edge.errors import InputError
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.playing import play
from train.record_file import read_record
from train.setting import read_settings
from train.shielding.__main__ import main
from train.shielding.playing import RandomPolicy, avoidable
from train.shielding.record import Shielding

EXAMPLES = Path(__file__).parents[2] / "examples/policies"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a simulation at hourly decisions, and a policy."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "coast.toml").write_text(
        'site = "miami"\nperiod_s = 3600.0\n[panel]\nrated_w = 40.0\n[battery]\nusable_wh = 120.0\n'
    )
    (folder / "policies").mkdir()
    shutil.copy(EXAMPLES / "price.toml", folder / "policies")
    return folder


def run(place: Path, *more: object) -> Result:
    app = typer.Typer()
    app.command()(main)
    arguments = [place / "coast.toml", "--policies", place / "policies", "--out", place / "shield.json", "--years", 1]
    arguments += ["--reserve-years", 4, "--battery-wh", 120, "--processes", 1]
    return CliRunner().invoke(app, [*map(str, arguments), *map(str, more)])


def test_a_brown_out_is_avoidable_where_the_floor_had_power_for_a_day_before_and_after() -> None:
    is_brown_out, has_power = np.zeros((200, 2), np.bool_), np.ones((200, 2), np.bool_)
    is_brown_out[[50, 100, 150]] = True
    has_power[[100 - 24, 150 + 25], 0] = False
    found = avoidable(is_brown_out, has_power, step_s=3600.0)
    assert np.flatnonzero(found[:, 0]).tolist() == [50, 150]
    assert np.flatnonzero(found[:, 1]).tolist() == [50, 100, 150]


def test_chance_asks_for_everything_and_the_same_again() -> None:
    policy, seen = RandomPolicy(3), Observation.of(time_s=0.0, n=1000)
    courses = []
    for _ in range(2):
        first, state = policy.decide(seen, policy.initial_state(1000))
        second, _ = policy.decide(seen, state)
        courses.append(np.concatenate([first.u, second.u]))
    np.testing.assert_array_equal(courses[0], courses[1])
    assert courses[0].min() < 0.01
    assert courses[0].max() > 0.99
    assert len(set(courses[0])) == 2000


def test_every_policy_is_played_without_and_with_the_shield_and_not_again(place: Path) -> None:
    result = run(place)
    assert result.exit_code == 0, result.output
    (found,) = read_record(place / "shield.json", Shielding).settings
    assert found.title == "coast, 40 W, 120 Wh"
    assert found.is_sufficient
    assert found.policies.keys() == {"always 1", "random", "price"}
    assert found.floor.brown_outs == 0.0
    always = found.policies["always 1"]
    assert always.bare.avoidable == always.bare.brown_outs
    assert always.bare.brown_outs > 0.0
    assert always.shielded.brown_outs == 0.0
    (setting,) = read_settings([place / "coast.toml"], [120.0])
    traces = draw_traces(read_climate("miami"), "test", [0], step_s=3600.0)
    outcome, _ = play(setting.device, traces, RandomPolicy(0), start_soc=0.6)
    assert found.policies["random"].bare.utility == pytest.approx(outcome.utility[0], rel=1e-6)
    assert "where the reserve fits: 1 settings, 1 device-years of each policy" in result.output

    written = (place / "shield.json").stat().st_mtime_ns
    again = run(place)
    assert again.output == result.output
    assert (place / "shield.json").stat().st_mtime_ns == written


def test_figures_need_a_file(place: Path) -> None:
    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, [str(place / "coast.toml")])
    assert isinstance(result.exception, InputError)
    assert "--out is missing: the JSON file for the figures" in str(result.exception)
