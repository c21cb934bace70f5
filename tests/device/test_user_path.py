"""Paths as a user wrote them: where they begin, and whether they lead anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tnn_edge.user_path import dead_end, under


def test_a_relative_path_begins_in_the_folder_and_keeps_its_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert under(Path(), Path("link")) == tmp_path / "link"
    assert under(tmp_path, Path("/dev/stdout")) == Path("/dev/stdout")
    assert under(tmp_path, Path("~/a")) == tmp_path / "home" / "a"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("x" * 300, "File name too long"),
        ("file/x", "Not a directory"),
        ("loop", "Too many levels of symbolic links"),
        ("a\0b", "embedded null byte"),
        ("~nobody-of-that-name/x", "Could not determine home directory."),
    ],
)
def test_a_dead_end_is_told_and_never_raised(tmp_path: Path, path: str, why: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    told = dead_end(tmp_path, Path(path))
    assert told is not None
    assert why in told


def test_what_is_missing_might_still_be_made(tmp_path: Path) -> None:
    assert dead_end(tmp_path, Path("a/b")) is None
    assert dead_end(tmp_path, Path()) is None
