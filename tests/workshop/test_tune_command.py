"""Tuning: a policy file comes out that can be read, a search goes on, and no test day is looked at."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from tnn_edge.control import PricePolicy, read_policy, write_profile
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import reference_device
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from train.tunable import KINDS, Place, at_place, build_policy, policy_settings
from train.tune import main, mean_utility, policy_text

SIMULATION = Path(__file__).parents[2] / "examples/demo/simulation.toml"


def run(*arguments: object) -> Result:
    app = typer.Typer()
    app.command()(main)
    return CliRunner().invoke(app, [str(SIMULATION), "--years", "1", *map(str, arguments)])


def test_a_search_goes_on_where_it_was_stopped_and_never_gets_worse(tmp_path: Path) -> None:
    out = tmp_path / "ramp.toml"
    first = run("--kind", "soc_ramp", "--out", out, "--trials", 2)
    assert first.exit_code == 0, first.output
    assert "in 2 trials" in first.output
    read_policy(out)
    second = run("--kind", "soc_ramp", "--out", out, "--trials", 3)
    assert "in 3 trials" in second.output
    utilities = [float(each.output.split("utility ")[1].split()[0]) for each in (first, second)]
    assert utilities[0] <= utilities[1]
    assert (tmp_path / "ramp.journal").is_file()


def test_a_search_of_other_years_does_not_go_on_from_it(tmp_path: Path) -> None:
    assert run("--kind", "constant", "--out", tmp_path / "c.toml", "--trials", 1).exit_code == 0
    other = run("--kind", "constant", "--out", tmp_path / "c.toml", "--trials", 1, "--years", 2)
    assert isinstance(other.exception, InputError)
    assert "c.journal has a study of constant 120 Wh greensboro with other years; name another --study" in str(
        other.exception
    )


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_decides_as_what_was_tuned(kind: str, tmp_path: Path) -> None:
    device, place = reference_device(), Place.of_climate(read_climate("miami"))
    rng = np.random.default_rng(0)
    found = {name: float(f"{rng.uniform(each.low, each.high):.6g}") for name, each in KINDS[kind].items()}
    path = tmp_path / "policy.toml"
    path.write_text(policy_text(kind, found, device, place, about="test"))
    written, tuned = read_policy(path).policy, build_policy(kind, found, device, place)
    settings = {name: value for name, value in vars(tuned).items() if isinstance(value, float)}
    assert settings == pytest.approx({name: getattr(written, name) for name in settings}, rel=1e-5)
    assert policy_settings(kind, found).keys() <= vars(tuned).keys()


def test_a_policy_is_tuned_for_the_profile_of_the_simulation(tmp_path: Path) -> None:
    mine = replace(reference_device().profile, idle_w=1.5, source="mine")
    (tmp_path / "boards").mkdir()
    write_profile(tmp_path / "boards/mine.toml", mine)
    config = tmp_path / "simulation.toml"
    config.write_text(SIMULATION.read_text().replace('profile = "reference"', 'profile = "boards/mine.toml"'))
    app = typer.Typer()
    app.command()(main)
    (tmp_path / "out").mkdir()
    out = tmp_path / "out/price.toml"
    arguments = [config, "--kind", "price", "--trials", 1, "--years", 1, "--out", out]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    policy = read_policy(out).policy
    assert isinstance(policy, PricePolicy)
    assert policy.profile.idle_w == 1.5
    elsewhere = at_place(read_policy(out), reference_device(), Place.of_climate(read_climate("miami"))).policy
    assert isinstance(elsewhere, PricePolicy)
    assert elsewhere.profile.idle_w == 2.2


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_numbers_are_searched_make_a_policy(kind: str) -> None:
    device, place = reference_device(battery_wh=40.0), Place.of_climate(read_climate("miami"))
    for ends in itertools.product(*([each.low, each.high] for each in KINDS[kind].values())):
        build_policy(kind, dict(zip(KINDS[kind], ends, strict=True)), device, place)


def test_tuning_maximises_what_is_played() -> None:
    device, climate = reference_device(battery_wh=40.0), read_climate("greensboro")
    drawn = draw_traces(climate, "train", [0], n_days=60, step_s=3600.0)
    mean, high = (mean_utility("constant", {"u": u}, device, [climate], [drawn]) for u in (0.0, 1.0))
    assert mean != high
    assert 0.0 < max(mean, high) < 1.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--kind", "pricy"), "--kind must be one of constant, thresholds, .*, got 'pricy'"),
        (("--kind", "price", "--site", "sand_point"), "sand_point is kept for tests"),
        (("--kind", "price", "--site", "oslo"), "no site is called 'oslo'"),
    ],
)
def test_a_search_that_cannot_be_is_refused_before_it_begins(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = run(*arguments, "--out", tmp_path / "p.toml")
    assert isinstance(result.exception, InputError)
    with pytest.raises(InputError, match=message):
        raise result.exception
    assert not list(tmp_path.iterdir())
