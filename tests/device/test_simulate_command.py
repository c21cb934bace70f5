"""`tnn-edge simulate`: what it prints, draws and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from tnn_edge.cli.main import app
from tnn_edge.errors import ConfigError, InputError

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "examples/demo/simulation.toml"
PRICE = ROOT / "examples/policies/price.toml"
RAMP = ROOT / "examples/policies/soc_ramp.toml"


def simulate(*arguments: object, config: Path = CONFIG) -> Result:
    return CliRunner().invoke(app, ["simulate", str(config), *map(str, arguments)])


def edited(folder: Path, old: str, new: str) -> Path:
    text = CONFIG.read_text()
    assert old in text
    path = folder / "simulation.toml"
    path.write_text(text.replace(old, new))
    return path


def test_every_policy_and_the_optimum_have_a_row() -> None:
    result = simulate("--policy", PRICE, "--policy", RAMP, "--days", 3)
    assert result.exit_code == 0, result.output
    for word in ("price", "soc_ramp", "optimum in hindsight", "3 days at greensboro", "nothing gets more than"):
        assert word in result.output


def test_json_holds_every_device_and_no_policy_is_above_the_bound() -> None:
    result = simulate("--policy", PRICE, "--policy", RAMP, "--days", 4, "--fleet", 5, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert (found["days"], found["devices"], found["site"]) == (4, 5, "greensboro")
    for policy in found["policies"].values():
        assert len(policy["right"]) == 5
        assert policy["utility"][0] <= found["optimum"]["bound"]
        assert policy["of_optimum"] == pytest.approx(policy["utility"][0] / found["optimum"]["attained"], rel=1e-6)


def test_the_first_device_hangs_on_no_fleet_around_it() -> None:
    alone, among = (json.loads(simulate("--policy", PRICE, "--days", 3, "--fleet", n, "--json").stdout) for n in (1, 7))
    assert alone["policies"]["price"]["right"][0] == among["policies"]["price"]["right"][0]
    assert alone["optimum"] == among["optimum"]
    assert len(set(among["policies"]["price"]["right"])) == 7


def test_the_same_simulation_gives_the_same_numbers() -> None:
    first, second = (simulate("--policy", PRICE, "--days", 2, "--fleet", 3, "--json").stdout for _ in range(2))
    assert first == second


def test_the_page_needs_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    result = simulate("--policy", PRICE, "--days", 3, "--fleet", 4, "--html", page)
    assert result.exit_code == 0, result.output
    html = page.read_text()
    assert html.count("data:image/svg+xml;base64,") == 3
    for word in ("3 simulated days at greensboro", "The fleet", "The days with the least sun", "price_at_zero_per_wh"):
        assert word in html
    for link in ("http://", "https://", "<script", "<link"):
        assert link not in html


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'site = "greensboro"',
            'site = "oslo"',
            r":7: site: no site is called 'oslo'; there are greensboro, miami, sand",
        ),
        ("usable_wh = 120.0", "usable_wh = -120.0", "usable_wh must be a finite number above 0, got -120"),
        ("rated_w = 40.0", "rated_w = -1.0", "rated_w must be finite and not negative, got -1"),
        ("period_s = 900", "period_s = 1000", "period_s: must divide an hour of 3600 s, got 1000; say 900"),
        ("start_soc = 0.6", "start_soc = 60", "start_soc: must be less than or equal to 1"),
        ('profile = "reference"', 'profile = "mine.toml"', "network.profile: there is no file .*mine.toml"),
        ("lamp_lux", "lamp_lx", "scene.lamp_lx: unknown key; did you mean lamp_lux"),
        ("[panel]\nrated_w = 40.0", "", "panel: missing: the table .panel. with rated_w"),
    ],
)
def test_a_faulty_simulation_is_refused_with_its_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    result = simulate("--policy", PRICE, "--days", 1, config=edited(tmp_path, old, new))
    assert isinstance(result.exception, ConfigError), result.output
    with pytest.raises(ConfigError, match=message):
        raise result.exception


def test_a_profile_without_power_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(
        'source = "x"\nis_modelled = true\nidle_w = 2.0\nu = [0.0, 1.0]\nlux = [1.0, 10.0]\n'
        "accuracy = [[0.1, 0.2], [0.3, 0.4]]\nconfidence = [[0.1, 0.2], [0.3, 0.4]]\n"
    )
    config = edited(tmp_path, 'profile = "reference"', 'profile = "mine.toml"')
    result = simulate("--policy", PRICE, "--days", 1, config=config)
    assert isinstance(result.exception, ConfigError)
    assert "power_w: missing: power in W on top of idle_w" in str(result.exception)


def test_two_policies_of_one_name_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "price.toml"
    other.write_text(PRICE.read_text())
    result = simulate("--policy", PRICE, "--policy", other, "--days", 1)
    assert isinstance(result.exception, InputError)
    assert "another policy is called 'price' too; rename one of the files" in str(result.exception)


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    result = simulate("--policy", PRICE, "--days", 3650, "--html", tmp_path / "missing" / "page.html")
    assert isinstance(result.exception, InputError)
    assert "does not exist; make it first" in str(result.exception)


def test_a_reserve_is_written_that_a_policy_can_name(tmp_path: Path) -> None:
    out = tmp_path / "reserve.json"
    config = edited(tmp_path, 'site = "greensboro"', 'site = "miami"')
    made = CliRunner().invoke(app, ["reserve", str(config), "--out", str(out), "--years", "8"])
    assert made.exit_code == 0, made.output
    assert "of 120 Wh are kept at the worst hour of a season" in made.output
    policy = tmp_path / "policy.toml"
    policy.write_text('[constant]\nu = 1.0\n[governor]\nunknown_u = 0.0\n[shield]\nreserve = "reserve.json"\n')
    found = json.loads(simulate("--policy", policy, "--days", 60, "--json", config=config).stdout)
    assert found["policies"]["policy"]["brown_outs"] == [0.0]


def test_a_reserve_of_another_device_is_refused(tmp_path: Path) -> None:
    out, policy = tmp_path / "reserve.json", tmp_path / "policy.toml"
    config = edited(tmp_path, 'site = "greensboro"', 'site = "miami"')
    CliRunner().invoke(app, ["reserve", str(config), "--out", str(out), "--years", "1"])
    policy.write_text('[constant]\nu = 1.0\n[governor]\nunknown_u = 0.0\n[shield]\nreserve = "reserve.json"\n')
    other = (
        config.read_text().replace("usable_wh = 120.0", "usable_wh = 40.0").replace("period_s = 900", "period_s = 1800")
    )
    config.write_text(other)
    result = simulate("--policy", policy, "--days", 1, config=config)
    assert isinstance(result.exception, InputError)
    assert "the reserve of miami is for another device: battery_wh 120.0 in place of 40.0" in str(result.exception)
    assert "period_s 900 in place of 1800; make one with tnn-edge reserve" in str(result.exception)


def test_where_even_the_optimum_gets_nothing_there_are_no_shares_of_it(tmp_path: Path) -> None:
    config = edited(tmp_path, "start_soc = 0.6", "start_soc = 0.0")
    config.write_text(config.read_text().replace("rated_w = 40.0", "rated_w = 0.0"))
    result = simulate("--policy", PRICE, "--days", 1, config=config)
    assert result.exit_code == 0, result.output
    assert "there are no shares of it" in result.output
    found = json.loads(simulate("--policy", PRICE, "--days", 1, "--json", config=config).stdout)
    assert found["policies"]["price"]["of_optimum"] is None


def test_a_reserve_that_does_not_fit_into_the_battery_says_so(tmp_path: Path) -> None:
    out = tmp_path / "reserve.json"
    config = edited(tmp_path, "usable_wh = 120.0", "usable_wh = 20.0")
    made = CliRunner().invoke(app, ["reserve", str(config), "--out", str(out), "--years", "1"])
    assert made.exit_code == 0, made.output
    assert "in some seasons even u_floor may not last; a larger battery or panel would" in made.output
