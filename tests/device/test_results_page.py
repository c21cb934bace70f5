"""The page of a run: what the database says, in one file that fetches nothing."""

from __future__ import annotations

import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tests.device.conftest import Command
from tnn_edge.camera import Accounting, Record, results_page
from tnn_edge.camera.database import ResultDatabase, open_results
from tnn_edge.camera.results_page import write_page
from tnn_edge.errors import InputError, TnnEdgeError

pytest.importorskip("matplotlib")


class Cells(HTMLParser):
    """The cells of every table of a page, and its other text."""

    def __init__(self) -> None:
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def record(index: int, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "frame": index,
        "name": "camera 0",
        "time": f"2026-03-01T12:00:{index:02d}.000000Z",
        "u": 0.25 if index < 4 else 0.75,
        "decision": index // 4,
        "reason": "night" if index < 4 else "day",
        "observed": {"soc": 0.5 + index / 100, "lux": 10.0**index if index < 4 else None},
        "point_u": 0.2,
        "blocks_run": 3,
        "macs": 2_000_000 if index < 4 else 8_000_000,
        "ms": 1.0 + index,
        "age_ms": 2.0 + index,
        "top1": "cat" if index % 2 else "dog",
        "confidence": 0.5,
    }
    return {**fields, **changes}  # type: ignore[typeddict-item]


def write_run(path: Path, records: list[Record], *, source: str = "camera 0", bundle: str = "net") -> int:
    accounting = Accounting(captured=len(records) + 2, processed=len(records) - 1, dropped=2, failed=1)
    with ResultDatabase(
        path, source=source, bundle=bundle, digest="0" * 64, config="[source]\nspec = '<0>'\n", accounting=accounting
    ) as database:
        for each in records:
            database.add(each)
        return database.run


def read_page(path: Path) -> Cells:
    cells = Cells()
    cells.feed(path.read_text())
    return cells


@pytest.fixture
def database(tmp_path: Path) -> Path:
    failed: Record = {"frame": 7, "name": "x", "time": "2026-03-01T12:00:07.000000Z", "u": 0.75, "error": "<b>torn</b>"}
    failed |= {"decision": 1, "reason": "day", "observed": {}}
    write_run(tmp_path / "frames.db", [*(record(i) for i in range(7)), failed])
    return tmp_path / "frames.db"


def test_the_page_shows_the_account_the_reasons_the_classes_and_the_failures(database: Path) -> None:
    page = database.with_name("page.html")
    assert write_page(database, page) == 1
    counts, reasons, classes, failures = read_page(page).tables
    assert counts == [["captured", "processed", "dropped", "failed"], ["10", "7", "2", "1"]]
    assert reasons == [
        ["reason", "frames", "mean u", "mean MMAC", "mean ms"],
        ["night", "4", "0.250", "2.00", "2.50"],
        ["day", "4", "0.750", "8.00", "6.00"],
    ]
    assert classes == [["class", "frames", "mean confidence"], ["dog", "4", "0.500"], ["cat", "3", "0.500"]]
    assert failures == [["error", "frames", "first"], ["<b>torn</b>", "1", "7"]]


def test_the_page_says_when_the_run_was_and_how_it_ended(database: Path) -> None:
    page = database.with_name("page.html")
    write_page(database, page)
    text = " ".join(read_page(page).text.split())
    assert "8 records, captured from 2026-03-01 12:00:00 UTC to 2026-03-01 12:00:07 UTC" in text
    assert re.search(r"It ended at 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC with its source\.", text)
    assert "[source] spec = '<0>'" in text


def test_the_page_fetches_nothing_and_runs_nothing(database: Path) -> None:
    page = database.with_name("page.html")
    write_page(database, page)
    text = page.read_text()
    assert "script" not in read_page(page).tags
    assert not re.search(r"""(src|href)\s*=\s*["'](?!#|data:image)""", text)
    assert "url(http" not in text


def test_names_from_outside_are_no_markup(tmp_path: Path) -> None:
    database, page = tmp_path / "frames.db", tmp_path / "page.html"
    write_run(database, [record(0, top1="<script>alert(1)</script>")], source="<img src=x>", bundle="a\x1b[2J")
    write_page(database, page)
    cells = read_page(page)
    assert "script" not in cells.tags
    assert cells.tags.count("img") == 1  # the curves
    assert cells.tables[2][1][0] == "<script>alert(1)</script>"
    assert r"a\x1b[2J on <img src=x>" in cells.text


def test_a_month_of_frames_makes_a_page_no_larger_than_an_hour(tmp_path: Path) -> None:
    sizes = []
    for n in (1_200, 3_600):
        database, page = tmp_path / f"{n}.db", tmp_path / f"{n}.html"
        write_run(database, [record(i % 7, frame=i, decision=i // 100) for i in range(n)])
        write_page(database, page)
        sizes.append(page.stat().st_size)
    assert sizes[1] < 1.2 * sizes[0]


def test_the_last_run_is_drawn_or_the_one_that_is_named(database: Path) -> None:
    page = database.with_name("page.html")
    assert write_run(database, [record(0)], bundle="second") == 2
    assert write_page(database, page) == 2
    assert "second on camera 0" in page.read_text()
    assert write_page(database, page, run=1) == 1
    assert "net on camera 0" in page.read_text()
    with pytest.raises(InputError, match=r"frames\.db has no run 3; there are 1 to 2"):
        write_page(database, page, run=3)


def test_a_run_that_goes_on_or_was_cut_off_has_a_page(database: Path) -> None:
    page = database.with_name("page.html")
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE runs SET ended = NULL, ended_by = NULL, captured = NULL")
    connection.close()
    write_page(database, page)
    cells = read_page(page)
    assert "It has not ended, or was cut off." in cells.text
    assert cells.tables[0][0][0] == "reason"


def test_a_damaged_database_is_one_clear_error(database: Path) -> None:
    size = database.stat().st_size
    with database.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(TnnEdgeError, match=r"frames\.db cannot be read \(.* malformed\); move it away"):
        write_page(database, database.with_name("page.html"))
    assert not database.with_name("page.html").exists()


def test_a_run_without_a_record_has_a_page(tmp_path: Path) -> None:
    database, page = tmp_path / "frames.db", tmp_path / "page.html"
    write_run(database, [])
    write_page(database, page)
    assert "0 records" in read_page(page).text


def test_the_command_draws_the_page(database: Path, tnn_edge_command: Command) -> None:
    page = database.with_name("page.html")
    assert tnn_edge_command("page", str(database), "--out", str(page)) == (0, f"{page}: run 1\n", "")
    assert page.read_text().startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in database.parent.iterdir()) == ["frames.db", "page.html"]


def test_the_command_tells_what_is_wrong_before_it_draws(tmp_path: Path, tnn_edge_command: Command) -> None:
    missing = tmp_path / "no.db"
    code, out, err = tnn_edge_command("page", str(missing), "--out", str(tmp_path / "page.html"))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: there is no file {missing}; `tnn-edge run CONFIG.toml` writes one")
    code, out, err = tnn_edge_command("page", str(missing), "--out", str(tmp_path))
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {tmp_path} is a folder, a device or a pipe; name ")


def test_a_curve_has_the_mean_of_each_stretch_and_the_largest_age_in_it(tmp_path: Path) -> None:
    database = tmp_path / "frames.db"
    n = 2 * results_page._BINS
    write_run(database, [record(i % 7, frame=i, ms=float(i), age_ms=float(1000 - i % 2)) for i in range(n)])
    with open_results(database) as connection:
        values = {"run": 1, "n_frames": n, "n_bins": results_page._BINS}
        curve = connection.execute(results_page._CURVES, values).fetchall()
    assert [row["frame"] for row in curve] == list(range(0, n, 2))
    assert [row["ms"] for row in curve] == [i + 0.5 for i in range(0, n, 2)]
    assert {row["age_ms"] for row in curve} == {1000.0}


def test_what_is_missing_in_a_database_is_a_dash(database: Path) -> None:
    connection = sqlite3.connect(database)
    with connection:
        connection.execute("UPDATE frames SET confidence = NULL, ms = -1, age_ms = 0 WHERE error IS NULL")
        connection.execute("UPDATE decisions SET lux = 0")
        connection.execute("UPDATE runs SET ended_by = NULL")
    connection.close()
    page = database.with_name("page.html")
    write_page(database, page)
    cells = read_page(page)
    assert cells.tables[2][1:] == [["dog", "4", "-"], ["cat", "3", "-"]]
    assert "nobody says why" in cells.text


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
def test_the_page_never_takes_the_place_of_the_database(end: str, database: Path, tnn_edge_command: Command) -> None:
    before = database.read_bytes()
    code, out, err = tnn_edge_command("page", str(database), "--out", f"{database}{end}")
    assert (code, out, err) == (1, "", f"error: {database}{end} is the database; name another file for the page\n")
    assert database.read_bytes() == before


@pytest.mark.parametrize("out", [".", "/", "a" * 300])
def test_a_page_that_no_file_can_hold_is_one_clear_error(
    out: str, database: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(database.parent)
    code, printed, err = tnn_edge_command("page", str(database), "--out", out)
    assert (code, printed) == (1, "")
    assert re.fullmatch(
        r"error: .* (is a folder, a device or a pipe|cannot be written).*; name another HTML file\n", err
    )


def test_a_database_whose_name_is_too_long_is_one_clear_error(tmp_path: Path, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("page", "a" * 300, "--out", str(tmp_path / "page.html"))
    assert (code, out) == (1, "")
    assert err.startswith("error: there is no file aaa")


@pytest.mark.parametrize(
    ("changes", "scales"), [({}, ["linear", "log", "log"]), ({"ms": -1.0, "age_ms": 0.0}, ["linear", "log", "linear"])]
)
def test_light_and_time_are_drawn_over_decades_where_there_is_anything_above_0(
    changes: dict[str, float], scales: list[str], tmp_path: Path
) -> None:
    write_run(tmp_path / "frames.db", [record(i, **changes) for i in range(4)])
    with open_results(tmp_path / "frames.db") as connection:
        curve = connection.execute(results_page._CURVES, {"run": 1, "n_frames": 4, "n_bins": 4}).fetchall()
    assert [axes.get_yscale() for axes in results_page._figure(curve).axes] == scales
