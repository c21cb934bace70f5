"""`tnn-edge day`: the lines while it runs, the table, the page, and how it ends."""

from __future__ import annotations

import base64
import io
import json
import re
import signal
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.device.conftest import Command
from tests.device.day_folder import HALF, write_day
from tnn_edge.camera.live_display import LiveDisplay
from tnn_edge.day import Contest, Life, LiveView, Scenario, Scenes, day_page, hold_contest, read_scenario
from tnn_edge.day.table import HEADINGS, rows
from tnn_edge.runtime import Engine

NAME = '<b>mine & "yours"</b> $x_2$ \\ \''


@pytest.fixture
def two_named(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A scenario with policies whose names are hard to show."""
    return write_day(tmp_path, tiny_bundle, policies={NAME: HALF, "_b": HALF}, start_soc=0.3)


def test_without_a_terminal_every_hour_has_a_line(tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, time={"start_hour": 6, "period_s": 1800}, start_soc=0.5)
    code, out, err = tnn_edge_command("day", str(path), "--device", "cpu")
    assert (code, err) == (0, "")
    lines = [line for line in out.split("\n") if "accuracy so far" in line]
    assert [line[:5] for line in lines] == [f"{(hour + 7) % 24:02d}:00" for hour in range(24)]
    first = r"07:00  u 0\.50 \(constant\)  SoC \d+ %  [\d,]+ lux  \d+\.\d\d ms  accuracy so far \d+\.\d %"
    assert re.fullmatch(first, lines[0])
    for heading in HEADINGS:
        assert heading in out
    assert "best constant u" in out
    assert "power is modelled" in out


def test_a_board_without_power_says_so(tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, panel={"rated_w": 0.0}, start_soc=0.0)
    code, out, _ = tnn_edge_command("day", str(path), "--device", "cpu")
    assert code == 0
    assert out.count("no power  SoC 0 %") == 24
    assert "best constant u: none survives" in out


def test_a_longer_run_has_a_line_every_six_hours(tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    path = write_day(tmp_path, tiny_bundle, weather={"clearness": [0.5] * 3})
    _, out, _ = tnn_edge_command("day", str(path), "--device", "cpu")
    lines = [line for line in out.split("\n") if "accuracy so far" in line]
    hours = [f"day {day} {hour:02d}:00" for day in (1, 2, 3) for hour in (6, 12, 18)]
    midnights = [f"day {day} 00:00" for day in (2, 3, 4)]
    assert [line[:11] for line in lines] == sorted(hours + midnights)


def test_json_alone_is_on_stdout(tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path, engine: Engine) -> None:
    path = write_day(tmp_path, tiny_bundle)
    code, out, err = tnn_edge_command("day", str(path), "--device", "cpu", "--seeds", "2", "--json")
    assert code == 0
    document = json.loads(out)
    assert list(document) == ["scenario", "bundle", "machine", "seeds", "mean"]
    assert [each["seed"] for each in document["seeds"]] == [7, 8]
    names = ["half", "always u = 1", "best constant u"]
    assert [row["name"] for row in document["seeds"][0]["rows"]] == names
    assert [row["name"] for row in document["mean"]] == names
    each = [seed["rows"][0]["score"]["seen_and_right"] for seed in document["seeds"]]
    assert document["mean"][0]["score"]["seen_and_right"] == pytest.approx(sum(each) / 2)
    assert [c["u"] for c in document["seeds"][0]["constants"]] == [*(p.u for p in engine.points[:-1]), 1.0]
    assert err.count("accuracy so far") == 48
    assert err.startswith("seed 7\n")


def test_several_seeds_have_a_table_each_and_one_of_their_mean(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    _, out, _ = tnn_edge_command("day", str(write_day(tmp_path, tiny_bundle)), "--device", "cpu", "--seeds", "2")
    for title in ("seed 7; power is modelled", "seed 8; power is modelled", "mean of 2 seeds"):
        assert out.count(title) == 1


def test_a_folder_that_is_missing_is_made_for_the_page(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    path = write_day(tmp_path, tiny_bundle)
    folder = tmp_path / "a" / "b"
    code, out, _ = tnn_edge_command("day", str(path), "--device", "cpu", "--out", str(folder))
    assert code == 0
    assert f"drawn: {folder / 'day.html'}" in out
    assert [each.name for each in folder.iterdir()] == ["day.html"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("cat", "the bundle knows no class 'unicorn'"),
        ("policy0.toml", r"policies\[0\]\.file: there is no file"),
        ("images", "images: there is no folder"),
    ],
)
def test_what_is_missing_is_one_error(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path, change: str, message: str
) -> None:
    path = write_day(tmp_path, tiny_bundle)
    there = tmp_path / "images" / change if change == "cat" else tmp_path / change
    there.rename(there.with_name("unicorn"))
    code, out, err = tnn_edge_command("day", str(path), "--device", "cpu")
    assert (code, out) == (1, "")
    assert re.match(f"error: .*{message}", err)
    assert err.count("\n") == 1


def test_a_page_that_cannot_be_is_told_before_the_run(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    path = write_day(tmp_path, tiny_bundle)
    code, out, err = tnn_edge_command("day", str(path), "--device", "cpu", "--out", str(path))
    assert (code, out) == (1, "")
    assert re.match(r"error: folder .*day\.toml cannot be made \(File exists\); name another one\n", err)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_with_130_and_leaves_no_page(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2", reason="jinja2 is not installed")

    def interrupted(view: LiveView, life: Life, scenes: Scenes) -> None:
        if life.n_done == 12:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(LiveView, "show", interrupted)
    folder = tmp_path / "out"
    code, out, err = tnn_edge_command(
        "day", str(write_day(tmp_path, tiny_bundle)), "--device", "cpu", "--out", str(folder)
    )
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert list(folder.iterdir()) == []


def test_a_terminal_shows_charge_throttle_light_and_accuracy(
    engine: Engine, tiny_bundle: Path, two_named: Path
) -> None:
    scenario = read_scenario(two_named)
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    lines: list[str] = []
    seconds = iter(range(100))  # each look comes a second after the last
    with LiveDisplay(enabled=True, console=console, clock=lambda: float(next(seconds))) as display:
        view = LiveView(scenario, NAME, display, lines.append)
        hold_contest(scenario, engine, seed=7, on_period=view.show)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert lines == []
    for text in (NAME, "12:00", "battery", "throttle u", "0.50  constant", "no power", "lux", "ms an image", "so far"):
        assert text in drawn


def page_html(scenario: Scenario, contests: list[Contest]) -> str:
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
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
