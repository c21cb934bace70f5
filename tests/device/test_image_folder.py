"""What a folder of images holds besides plain files: links, pipes, and names that are no text."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tnn_edge.camera import ImageFolder
from tnn_edge.errors import SourceError


def write_image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(np.full((4, 4, 3), 128, np.uint8)).save(path)
    return path


def test_a_pipe_with_the_name_of_an_image_is_a_failed_frame_and_not_waited_for(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png")
    os.mkfifo(tmp_path / "2.jpg")
    (tmp_path / "3.jpg").symlink_to("/dev/null")
    write_image(tmp_path / "4.png")
    frames = list(ImageFolder(tmp_path))
    reason = "it is no regular file but a pipe, a socket or a device"
    assert [frame.error for frame in frames] == [None, reason, reason, None]


def test_links_to_images_and_to_folders_are_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "1.png")
    write_image(tmp_path / "tree" / "dog" / "2.png")
    (tmp_path / "tree" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "tree" / "dog" / "3.png").symlink_to(tmp_path / "elsewhere" / "1.png")
    frames = list(ImageFolder(tmp_path / "tree"))
    assert [(frame.name, frame.label) for frame in frames] == [
        ("cat/1.png", "cat"), ("dog/2.png", "dog"), ("dog/3.png", "dog"),
    ]  # fmt: skip
    assert all(frame.error is None for frame in frames)


def test_a_link_to_a_folder_that_it_lies_in_is_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "tree"
    write_image(root / "cat" / "1.png")
    write_image(tmp_path / "elsewhere" / "2.png")
    (root / "cat" / "self").symlink_to(".")
    (root / "cat" / "up").symlink_to("../..")
    # Round about: neither of the two folders holds the other.
    (root / "dog").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(root)
    assert [frame.name for frame in ImageFolder(root)] == ["cat/1.png", "dog/2.png"]


def test_a_relative_root_is_walked_like_an_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_image(tmp_path / "tree" / "cat" / "1.png")
    (tmp_path / "tree" / "again").symlink_to("../tree")
    monkeypatch.chdir(tmp_path)
    assert [frame.name for frame in ImageFolder(Path("tree"))] == ["cat/1.png"]


def test_a_folder_below_one_that_may_not_be_searched_is_one_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    write_image(tmp_path / "1.png")
    monkeypatch.setattr(Path, "stat", refuse)  # what a user meets who is not root
    with pytest.raises(SourceError, match=r"cannot be read \(Permission denied\); check its permissions"):
        ImageFolder(tmp_path)


def test_a_folder_that_may_not_be_listed_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: object) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    write_image(tmp_path / "1.png")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SourceError, match=r"cannot be listed \(Permission denied\); check its permissions"):
        ImageFolder(tmp_path)
