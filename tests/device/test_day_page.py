"""The page of a day: every number on it, the curves, the words that hang on the scenario."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.day_folder import HALF, write_day
from tnn_edge.day import Answers, Contest, Scenario, Scenes, day_page, hold_contest, read_scenario
from tnn_edge.day.pictures import draw_accuracy, draw_throttle
from tnn_edge.day.table import HEADINGS, rows
from tnn_edge.runtime import Engine

pytest.importorskip("jinja2", reason="jinja2 is not installed")
pytest.importorskip("matplotlib", reason="matplotlib is not installed")

NAME = '<b>mine & "yours"</b> $x_2$ \\ \''


@pytest.fixture
def two_named(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A scenario with policies whose names are hard to show."""
    return write_day(tmp_path, tiny_bundle, policies={NAME: HALF, "_b": HALF}, start_soc=0.3)


def page_html(scenario: Scenario, contests: list[Contest]) -> str:
    machine: dict[str, Any] = {"cpu": "a <cpu>", "cores": 2, "device": "cpu", "threads": 1}
    return day_page(contests, scenario, machine, "<bundle>").html()


def test_the_page_holds_the_table_the_curves_and_the_files(engine: Engine, two_named: Path) -> None:
    scenario = read_scenario(two_named)
    contest = hold_contest(scenario, engine, seed=7)
    html = page_html(scenario, [contest])
    cells = [unescape(cell) for cell in re.findall(r"<td>(.*?)</td>", html)]
    assert cells[: 4 * len(HEADINGS)] == [cell for row in rows(contest) for cell in row]
    pictures = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', html)
    assert len(pictures) == 4
    assert all(base64.b64decode(each).startswith(b"<svg") for each in pictures)
    texts = [unescape(text) for text in re.findall(r"<pre>(.*?)</pre>", html, re.DOTALL)]
    assert texts == [scenario.text, HALF, HALF]
    assert "<b>mine" not in html
    assert "a &lt;cpu&gt;" in html
    assert "scaled by multiply-adds" in html
    assert not re.search(r"<script|<link|(src|href)=\"(?!data:)|https?://", html)


def test_the_page_of_several_seeds_shows_their_mean_first(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle))
    contests = [hold_contest(scenario, engine, seed=seed) for seed in (7, 8)]
    headings = re.findall(r"<h2>(.*?)</h2>", page_html(scenario, contests))
    assert headings[:4] == ["Mean of 2 seeds", "Seed 7", "Seed 8", "Through the hours of seed 7"]


def test_the_page_of_a_day_without_survivors_says_so(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, panel={"rated_w": 0.0}, start_soc=0.0))
    html = page_html(scenario, [hold_contest(scenario, engine, seed=7)])
    assert "best constant u: none survives" in html


Held = Callable[..., tuple[Scenario, Contest]]


@pytest.fixture
def held(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> Held:
    """Holds the contest of a scenario with changes."""

    def hold(**changes: Any) -> tuple[Scenario, Contest]:
        scenario = read_scenario(write_day(tmp_path, tiny_bundle, **changes))
        return scenario, hold_contest(scenario, engine, seed=7)

    return hold


def paragraphs(scenario: Scenario, contest: Contest) -> str:
    return " ".join(unescape(text) for text in re.findall(r"<(?:p|dd)[^>]*>(.*?)</", page_html(scenario, [contest])))


def test_what_dim_light_leaves_is_counted(held: Held, engine: Engine) -> None:
    scenario, contest = held(weather={"night_lux": 9.0})
    answers = Answers(engine, Scenes(scenario, engine.manifest, 7), 2)
    dim = [i for i in range(24) if contest.scenes.lux[i] < 10.0]
    n_right = [sum(int(answers.of(i).is_right[j, k]) for i in dim for j in range(2)) for k in range(len(engine.points))]
    best, lowest = (round(100 * n / (2 * len(dim))) for n in (max(n_right), n_right[0]))
    text = paragraphs(scenario, contest)
    assert f"{round(100 * len(dim) / 24)} % of the frames come at less than 10 lux" in text
    assert f"the best operating point is right in {best} %" in text
    assert f"the lowest in {lowest} %; a guess among 10 classes would be in 10 %" in text


def test_without_dim_light_there_is_no_word_of_it(held: Held) -> None:
    assert "lux. There" not in paragraphs(*held(weather={"night_lux": 10.0}))


def test_the_words_about_the_device_are_the_scenario_s(held: Held) -> None:
    battery = {"charge_efficiency": 0.91, "discharge_efficiency": 0.87, "cut_off": 0.04, "reboot": 0.2}
    scenario, contest = held(board={"idle_w": 1.5, "compute_w": 3.25}, battery=battery, camera={"images_per_period": 1})
    text = paragraphs(scenario, contest)
    assert "of the scenario's board: 1.5 W idle, 3.25 W more while it computes at u = 1." in text
    assert "91 % of what goes in is stored, 87 % of that comes out" in text
    assert "goes dark at 4 % and starts again at 20 %" in text
    assert "; 1 image really computed in every 3600 s" in text
    assert "Jetson" not in text


@pytest.mark.parametrize(
    ("latitude_deg", "text"),
    [(-47.5, "47.5 degrees south"), pytest.param(3, "3 degrees north", marks=pytest.mark.slow)],
)
def test_a_latitude_is_north_or_south(held: Held, latitude_deg: float, text: str) -> None:
    assert text in paragraphs(*held(site={"latitude_deg": latitude_deg}))


def test_every_constant_has_its_own_milliseconds(held: Held) -> None:
    scenario, contest = held()
    ms = tuple(float(i) for i in range(len(contest.constants)))
    cells = re.findall(
        r"<tr><td>u = (.*?)</td>.*<td>(.*?)</td></tr>", page_html(scenario, [replace(contest, mean_ms=ms)])
    )
    assert cells == [(f"{entry.u:.2f}", f"{each:.2f}") for entry, each in zip(contest.constants, ms, strict=True)]


def test_the_curve_counts_dark_hours_as_missed(held: Held) -> None:
    scenario, contest = held()

    def drawn(on_share: float, right_share: float) -> bytes:
        entry = contest.policies["half"]
        life = replace(entry.life, on_share=np.full(24, on_share), right_share=np.full(24, right_share))
        return draw_accuracy(replace(contest, policies={"half": replace(entry, life=life)}), scenario)

    assert drawn(0.0, 1.0) == drawn(1.0, 0.0)
    assert drawn(0.5, 1.0) == drawn(1.0, 0.5)
    assert drawn(1.0, 1.0) != drawn(1.0, 0.5)


def test_the_legend_of_the_throttle_names_lines_and_bands(held: Held) -> None:
    scenario, contest = held(policies={"mine": HALF, "yours": HALF}, battery={"usable_wh": 1000.0})
    svg = draw_throttle(contest, scenario).decode()
    best = contest.best_constant
    assert best is not None
    named = re.findall(r"<!-- (.*?) -->", svg)  # matplotlib says in words what it draws as paths
    legend = ["mine", "always u = 1", f"best constant u = {best.u:.2f}", "yours", "constant"]
    assert [text for text in named if text in legend] == legend
