"""Paths that a user wrote into a file: where they begin, and whether they lead anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

__all__ = ["dead_end", "missing", "under"]


def under(folder: Path, path: Path) -> Path:
    """The path in full; a relative one begins in `folder`, ~ is the user's home.

    Links in it stay as they are: /dev/stdout leads to no name that could be opened.

    Raises:
        RuntimeError: it begins in the home of nobody.
    """
    return (folder / path.expanduser()).absolute()


def dead_end(folder: Path, path: Path) -> str | None:
    """Why nothing can be at the path, or why one may not look; None where something is or might be.

    Args:
        folder: where a relative path begins.
        path: as the user wrote it.
    """
    try:
        under(folder, path).stat()
    except FileNotFoundError:
        return None
    except (OSError, RuntimeError, ValueError) as err:  # RuntimeError: nobody's home; ValueError: a NUL
        return str(getattr(err, "strerror", None) or err)
    return None


def missing(folder: Path, path: Path, kind: Literal["file", "folder"]) -> str | None:
    """What is wrong with a path that must lead to a file, or to a folder, and the way out; None where nothing is.

    Args:
        folder: where a relative path begins.
        path: as the user wrote it.
        kind: of what must be there.
    """
    if why := dead_end(folder, path):
        return f"leads nowhere ({why}); name another {kind}"
    found = under(folder, path)
    if found.is_file() if kind == "file" else found.is_dir():
        return None
    return f"there is no {kind} {found}; a relative path begins beside this file"
