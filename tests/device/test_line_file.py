"""A file that only ever holds complete lines."""

from __future__ import annotations

import os
import threading
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


def test_a_named_pipe_takes_lines_until_its_reader_leaves(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with LineFile(pipe) as file:
        file.write('{"frame": 0}')
        assert os.read(reader, 100) == b'{"frame": 0}\n'
        os.close(reader)
        with pytest.raises(BrokenPipeError, match="Broken pipe"):
            file.write('{"frame": 1}')


def test_a_named_pipe_that_is_full_waits_for_its_reader(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    received: list[bytes] = []
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    os.set_blocking(reader, True)

    def read_all() -> None:
        with os.fdopen(reader, "rb") as end:
            received.append(end.read())

    thread = threading.Thread(target=read_all)
    with LineFile(pipe) as file:
        thread.start()
        for i in range(3):
            file.write(str(i) * 200_000)  # more than a pipe holds
    thread.join()
    assert received == [b"".join(str(i).encode() * 200_000 + b"\n" for i in range(3))]


def test_a_named_pipe_that_nobody_reads_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TnnEdgeError, match=r"nobody reads .*pipe; start its reader first, or name a file"):
        LineFile(tmp_path / "pipe").__enter__()


def test_a_folder_above_that_may_not_be_searched_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "stat", refuse)  # what a user meets who is not root
    with pytest.raises(TnnEdgeError, match=r"log\.jsonl cannot be written \(Permission denied\); name another file"):
        LineFile(tmp_path / "log.jsonl")
