"""`tnn-edge day` on a terminal of 24 lines of 80 columns, ended by SIGTERM; and its table on a narrow one."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.console import Console

from tests.device.day_folder import write_day
from tnn_edge.day.narrow_table import fits, turned_tables
from tnn_edge.day.table import HEADINGS

REPOSITORY = Path(__file__).resolve().parents[2]

ROWS = [[name, "864,000", *["99.9 %"] * 8] for name in ("rules", "always u = 1", "best constant u = 0.09", "pacing")]


@pytest.fixture(scope="module")
def ended(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str]:
    """Exit code and all that the terminal got of a run that SIGTERM met once it had shown its second seed."""
    path = write_day(tmp_path_factory.mktemp("day"), tiny_bundle, battery={"usable_wh": 1000.0})
    master, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    code = "from tnn_edge.cli.main import main; main()"
    command = [sys.executable, "-c", code, "day", str(path), "--device", "cpu", "--seeds", "1000"]
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    env |= {"PYTHONPATH": str(REPOSITORY), "TERM": "xterm-256color"}
    child = subprocess.Popen(command, env=env, stdin=terminal, stdout=terminal, stderr=terminal)
    os.close(terminal)
    text = b""
    try:
        while chunk := _read(master):
            if b"seed 8" in chunk and b"seed 8" not in text:
                child.send_signal(signal.SIGTERM)
            text += chunk
        return child.wait(timeout=60), text.decode()
    finally:
        child.kill()
        child.wait()
        os.close(master)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # Linux's word for the end: nobody has the terminal open any more
        return b""


def test_sigterm_leaves_a_cursor_and_the_results(ended: tuple[int, str]) -> None:
    code, text = ended
    assert code == 143
    assert "seed 7; power is modelled" in text
    assert re.search(r"stopped: [1-9]\d* of 1000 seeds are finished", text)
    assert "\x1b[?25l" in text  # it was hidden
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_the_panel_is_there_before_the_first_answer(ended: tuple[int, str]) -> None:
    _, text = ended
    assert re.search(r"half, seed 7   00:00   0 %", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text))


def test_no_figure_is_cut_off_in_80_columns(ended: tuple[int, str]) -> None:
    _, text = ended
    table = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).partition("seed 7; power is modelled")[2]
    assert "\N{HORIZONTAL ELLIPSIS}" not in table
    for heading in HEADINGS[1:]:
        assert re.search(rf"\N{{BOX DRAWINGS LIGHT VERTICAL}} {heading} +\N{{BOX DRAWINGS LIGHT VERTICAL}}", table)
    assert "172,800" in table  # frames of a day at 2 a second


def printed(rows: list[list[str]], width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    for table in turned_tables(rows, width):
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_table_is_turned_where_it_has_no_room() -> None:
    assert fits(ROWS, 160)
    assert not fits(ROWS, 80)
    cells = [re.split(r" *[\u2502\u2503] *", line)[1:-1] for line in printed(ROWS, 80).split("\n")]
    columns = list(zip(*(line for line in cells if line), strict=True))
    assert columns == [("", *HEADINGS[1:]), *(tuple(row) for row in ROWS)]


@pytest.mark.parametrize("width", [60, 80, 100])
def test_many_policies_take_several_tables_within_the_width(width: int) -> None:
    rows = [[f"policy [red] {i}", f"{i}{i},000", *["99.9 %"] * 8] for i in range(9)]
    text = printed(rows, width)
    assert max(map(len, text.split("\n"))) <= width
    for name, served, *_ in rows:
        assert text.count(f" {name} ") == text.count(f" {served} ") == 1
    assert text.count("frames served") == text.count("final SoC") > 1
