"""A file that only ever holds complete lines."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tnn_edge.camera.line_file import LineFile
from tnn_edge.errors import InputError, TnnEdgeError


def test_a_line_that_a_power_cut_left_incomplete_is_ended_before_more_follow(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"frame": 0}\n{"fra')
    with LineFile(path, append=True) as file:
        file.write("{}")
    assert path.read_text() == '{"frame": 0}\n{"fra\n{}\n'


def test_a_full_disk_is_an_error_that_names_the_file() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    with pytest.raises(TnnEdgeError, match=r"/dev/full cannot be written \(No space left"), LineFile(full) as file:
        file.write("{}")


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log.jsonl"
    write = os.write
    room = 6

    def nearly_full(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(28, "No space left on device")
        written = write(fd, data[:room])
        room -= written
        return written

    with LineFile(path) as file:
        monkeypatch.setattr(os, "write", nearly_full)
        file.write("{}")
        with pytest.raises(TnnEdgeError, match=r"No space left on device.*; all lines before are whole"):
            file.write('{"frame": 1}')
    assert path.read_text() == "{}\n"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("", {}, "is a folder; name a file"),
        ("no/where.jsonl", {}, "folder .*no does not exist; make it first"),
        ("x.jsonl", {"append": True, "overwrite": True}, "append and overwrite exclude each other; choose one"),
    ],
)
def test_an_output_that_cannot_be_is_refused(name: str, options: dict[str, bool], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        LineFile(tmp_path / name, **options)
