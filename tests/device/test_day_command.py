"""`tnn-edge day`: the lines while it runs, the table, and how it ends."""

from __future__ import annotations

import io
import json
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from tests.device.conftest import Command
from tests.device.day_folder import HALF, write_day
from tnn_edge.camera.live_display import LiveDisplay
from tnn_edge.day import Life, LiveView, Scenes, hold_contest, read_scenario
from tnn_edge.day.table import HEADINGS
from tnn_edge.runtime import Engine

NAME = '<b>mine & "yours"</b> $x_2$ \\ \''


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
    assert list(document) == ["scenario", "bundle", "machine", "fallback", "modelled", "seeds", "mean"]
    scores = document["seeds"][0]["rows"][0]["score"]
    assert set(scores) - set(document["modelled"]) == {"accuracy", "mean_u"}  # the answers and decisions are real
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
    assert re.match(r"error: folder .*day\.toml cannot be made \(File exists\); name another\n", err)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_with_130_and_leaves_no_page(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("jinja2", reason="jinja2 is not installed")

    monkeypatch.setattr(LiveView, "show", signalled(signal.SIGINT, after_days=0))
    folder = tmp_path / "out"
    code, out, err = tnn_edge_command(
        "day", str(write_day(tmp_path, tiny_bundle)), "--device", "cpu", "--out", str(folder)
    )
    assert (code, out, err) == (130, "", "stopped: 0 of 1 seeds are finished\n")
    assert list(folder.iterdir()) == []


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_what_the_finished_seeds_gave(
    tnn_edge_command: Command,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    signum: int,
    code: int,
) -> None:
    pytest.importorskip("jinja2", reason="jinja2 is not installed")
    monkeypatch.setattr(LiveView, "show", signalled(signum, after_days=2))
    path = write_day(tmp_path, tiny_bundle)
    ended, out, err = tnn_edge_command(
        "day", str(path), "--device", "cpu", "--seeds", "4", "--json", "--out", str(tmp_path / "out")
    )
    assert ended == code
    assert [each["seed"] for each in json.loads(out)["seeds"]] == [7, 8]
    assert "stopped: 2 of 4 seeds are finished\n" in err
    assert "seeds 7, 8" in (tmp_path / "out" / "day.html").read_text()


def signalled(signum: int, *, after_days: int) -> Callable[[LiveView, Life, Scenes], None]:
    """In place of a view: a signal in the middle of a day."""
    n_noons = 0

    def show(_view: LiveView, life: Life, _scenes: Scenes) -> None:
        nonlocal n_noons
        n_noons += life.n_done == 12
        if life.n_done == 12 and n_noons == after_days + 1:
            signal.raise_signal(signum)

    return show


def test_a_terminal_shows_charge_throttle_light_and_accuracy(engine: Engine, tiny_bundle: Path, tmp_path: Path) -> None:
    scenario = read_scenario(write_day(tmp_path, tiny_bundle, policies={NAME: HALF}, start_soc=0.3))
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    lines: list[str] = []
    seconds = iter(range(100))  # each look comes a second after the last
    with LiveDisplay(enabled=True, console=console, clock=lambda: float(next(seconds))) as display:
        view = LiveView(scenario, NAME, display, lines.append)
        view.start()
        before = console.file.getvalue()  # type: ignore[attr-defined]
        hold_contest(scenario, engine, seed=7, on_period=view.show)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert lines == []
    for text in (NAME, "12:00", "battery", "throttle u", "0.50  constant", "no power", "lux", "ms an image", "so far"):
        assert text in drawn
    assert "power and light modelled" in drawn
    for text in ("00:00   0 %", "battery", "30 %", "accuracy"):
        assert text in before
