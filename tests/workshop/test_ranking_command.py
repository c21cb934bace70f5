"""Ranking: every policy in every setting beside the optimum, in a file that it goes on from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from tests.device.test_sim_trace_csv import MIAMI, sunlight, write
from tnn_edge.control import PricePolicy, read_policy
from tnn_edge.errors import ConfigError, InputError
from tnn_edge.sim.oracle import find_optimum
from train.ranking.__main__ import main
from train.ranking.record import Attained, Optima, Ranked, Ranking
from train.ranking.scores import ahead_by, bracket, score_of
from train.ranking.telling import verdict
from train.record_file import read_record
from train.setting import policy_files, read_settings

EXAMPLES = Path(__file__).parents[2] / "examples/policies"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a simulation of three measured days, and two policies."""
    write(tmp_path / "roof.csv", sunlight(3))
    sun = "\n".join(f"{name} = {value}" for name, value in MIAMI.items())
    parts = [
        'period_s = 3600.0\n[sunlight]\ncsv = "roof.csv"',
        sun,
        "[panel]\nrated_w = 20.0",
        "[battery]\nusable_wh = 60.0",
    ]
    (tmp_path / "roof.toml").write_text("\n".join(parts))
    (tmp_path / "policies").mkdir()
    for name in ("price", "constant"):
        shutil.copy(EXAMPLES / f"{name}.toml", tmp_path / "policies")
    return tmp_path


def run(place: Path, *more: object, batteries: tuple[int, ...] = (40, 60)) -> Result:
    app = typer.Typer()
    app.command()(main)
    arguments = [place / "roof.toml", "--policies", place / "policies", "--out", place / "ranking.json", "--years", 2]
    for battery_wh in batteries:
        arguments += ["--battery-wh", battery_wh]
    return CliRunner().invoke(app, [*map(str, arguments), *map(str, more)])


def test_every_policy_is_played_in_every_setting_beside_the_optimum(place: Path) -> None:
    result = run(place, "--png", place / "ranking.png")
    assert result.exit_code == 0, result.output
    ranking = read_record(place / "ranking.json", Ranking)
    assert [ranked.title for ranked in ranking.settings] == ["roof, 20 W, 40 Wh", "roof, 20 W, 60 Wh"]
    settings = read_settings([place / "roof.toml"], [40.0, 60.0])
    for ranked, setting in zip(ranking.settings, settings, strict=True):
        assert ranked.policies.keys() == {"price", "constant"}
        assert ranked.days == 3.0
        assert ranked.optima is not None
        traces = setting.simulation.traces(n_days=None, n_years=2)
        expected = [find_optimum(setting.device, traces, i, start_soc=0.6).attained for i in range(2)]
        assert ranked.optima.attained == pytest.approx(expected, rel=1e-6)
        for attained in ranked.policies.values():
            assert (np.array(attained.utility) <= np.array(ranked.optima.bound) * (1.0 + 1e-6)).all()
        assert ranked.title in result.output
    assert "price over constant: ahead in " in result.output
    with Image.open(place / "ranking.png") as picture:
        assert min(picture.size) > 100


def test_what_is_known_is_not_played_again_but_a_changed_policy_is(place: Path) -> None:
    run(place, batteries=(60,))
    first = json.loads((place / "ranking.json").read_text())
    marked = json.loads(json.dumps(first))
    for attained in marked["settings"][0]["policies"].values():
        attained["hours_down"] = [7.0, 7.0]
    (place / "ranking.json").write_text(json.dumps(marked))
    constant = place / "policies/constant.toml"
    constant.write_text(constant.read_text() + "# another\n")
    run(place, batteries=(60,))
    policies = read_record(place / "ranking.json", Ranking).settings[0].policies
    assert policies["price"].hours_down == [7.0, 7.0]
    assert policies["constant"].hours_down == first["settings"][0]["policies"]["constant"]["hours_down"]


def test_another_simulation_of_the_same_name_begins_anew(place: Path) -> None:
    run(place, batteries=(60,))
    (place / "roof.toml").write_text("start_soc = 0.3\n" + (place / "roof.toml").read_text())
    run(place, batteries=(60,))
    ranking = read_record(place / "ranking.json", Ranking)
    assert len(ranking.settings) == 1
    traces = read_settings([place / "roof.toml"], [])[0].simulation.traces(n_days=None, n_years=2)
    optimum = find_optimum(read_settings([place / "roof.toml"], [])[0].device, traces, 0, start_soc=0.3)
    assert ranking.settings[0].optima is not None
    assert ranking.settings[0].optima.attained[0] == pytest.approx(optimum.attained, rel=1e-6)


def test_a_ranking_is_shown_again_from_its_file(place: Path) -> None:
    played = run(place, batteries=(60,))
    app = typer.Typer()
    app.command()(main)
    shown = CliRunner().invoke(app, [str(place / "ranking.json")])
    assert shown.exit_code == 0
    assert shown.output == played.output


def test_a_policy_for_another_battery_has_its_own_folder_and_becomes_that_of_the_device(place: Path) -> None:
    own = place / "policies/40wh"
    own.mkdir()
    shutil.copy(EXAMPLES / "price.toml", own)
    small, large = read_settings([place / "roof.toml"], [40.0, 60.0])
    assert policy_files(place / "policies", small).keys() == {"price"}
    assert policy_files(place / "policies", large).keys() == {"price", "constant"}
    policy = policy_files(place / "policies", small)["price"].policy.policy
    as_written = read_policy(own / "price.toml").policy
    assert isinstance(policy, PricePolicy)
    assert isinstance(as_written, PricePolicy)
    assert policy.battery_wh == 40.0
    assert policy.price_slope == as_written.price_slope


def test_the_interval_holds_the_interquartile_mean_which_no_outlier_moves() -> None:
    values = np.linspace(0.4, 0.6, 20)
    score = score_of(values)
    assert score.mean == pytest.approx(0.5)
    assert 0.4 < score.low < score.mean < score.high < 0.6
    spoilt = values.copy()
    spoilt[-1] = 100.0
    assert score_of(spoilt).mean == score.mean


def known(**utilities: list[float]) -> Ranked:
    n = len(next(iter(utilities.values())))
    policies = {
        name: Attained(
            sha256="", utility=each, right=each, brown_outs=[0.0] * n, hours_down=[0.0] * n, mean_u=[0.5] * n
        )
        for name, each in utilities.items()
    }
    optima = Optima(attained=[10.0] * n, bound=[10.1] * n, brown_outs=[0.0] * n)
    where: dict[str, Any] = {
        "name": "x",
        "panel_w": 1.0,
        "battery_wh": 2.0,
        "simulation": "",
        "days": 3.0,
        "n_years": n,
    }
    return Ranked(**where, events=[20.0] * n, optima=optima, policies=policies)


def test_the_verdict_counts_only_what_the_interval_bears_out() -> None:
    clear = known(price=[9.0, 9.1, 9.2, 9.3], ramp=[8.0, 8.1, 8.2, 8.3])
    unclear = known(price=[9.0, 8.0, 9.0, 8.0], ramp=[8.0, 9.0, 8.0, 9.0])
    assert bracket(clear) == pytest.approx(0.01)
    assert ahead_by(clear, "price", "ramp").mean == pytest.approx(0.1)
    (told,) = verdict(Ranking(settings=[clear, unclear]))
    assert told.startswith("price over ramp: ahead in 1 of 2 settings; least at x, 1 W, 2 Wh, +0.0 points")


def test_wrong_arguments_are_told_and_nothing_is_written(place: Path) -> None:
    (place / "empty").mkdir()
    for arguments, error, message in (
        (["--policies", place / "empty"], InputError, "holds no policy for roof, 20 W, 40 Wh: neither"),
        ([place / "missing.toml"], ConfigError, "missing.toml"),
        ([place / "roof.toml"], InputError, "two simulations are called 'roof'; rename one of the files"),
    ):
        result = run(place, *arguments)
        assert isinstance(result.exception, error)
        assert message in str(result.exception)
    assert not (place / "ranking.json").exists()


def test_a_file_that_is_no_ranking_is_refused(place: Path) -> None:
    (place / "ranking.json").write_text('{"settings": [{"name": "roof"}]}')
    result = run(place)
    assert isinstance(result.exception, InputError)
    assert "is no ranking: settings.0.panel_w: Field required; name another file" in str(result.exception)
    assert (place / "ranking.json").read_text() == '{"settings": [{"name": "roof"}]}'
