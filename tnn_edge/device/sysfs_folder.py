"""A folder of one-line files in the kernel's class tree, read so that nothing in it can stop the program."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["SysfsFolder", "subfolders"]

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_LONGEST = 4096  # a sysfs attribute is one page at most


class SysfsFolder:
    """One device's attributes.

    An attribute that is not there is None without a word, since drivers offer what they have; one that is there and
    cannot be used is None with a note.

    Attributes:
        name: of the folder.
        notes: what could not be used, one line each, as `folder/attribute: reason`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        self.notes: list[str] = []

    def text(self, attribute: str) -> str | None:
        """The attribute's text without white space at its ends, None where there is none."""
        try:
            text = _read(self.path / attribute).decode("ascii").strip()
        except FileNotFoundError:
            return None
        except UnicodeDecodeError:
            self.note(attribute, "is not text")
            return None
        except OSError as err:
            self.note(attribute, err.strerror or type(err).__name__)
            return None
        if not text:
            self.note(attribute, "is empty")
            return None
        return text

    def integer(self, attribute: str) -> int | None:
        """The attribute as a whole number, None where it is none."""
        if (text := self.text(attribute)) is None:
            return None
        if not _INTEGER.fullmatch(text):
            self.note(attribute, f"{text[:20]!r} is no whole number")
            return None
        return int(text)

    def micro(self, attribute: str) -> float | None:
        """The attribute in units, where the kernel gives millionths: uV, uA, uW, uAh, uWh."""
        value = self.integer(attribute)
        return None if value is None else value * 1e-6

    def note(self, attribute: str, reason: str) -> None:
        """Keep why an attribute was not used."""
        self.notes.append(f"{self.name}/{attribute}: {reason}")


def subfolders(root: Path, prefix: str = "") -> list[SysfsFolder]:
    """The folders in `root` whose names begin with `prefix`, in the order of their names.

    Raises:
        OSError: `root` cannot be listed.
    """
    paths = [path for path in root.iterdir() if path.name.startswith(prefix)]
    return [SysfsFolder(path) for path in sorted(paths)]


def _read(path: Path) -> bytes:
    """At most a page.

    Python's file objects turn EAGAIN, which a sensor without power gives, into None and then into a TypeError; the
    system call says it plainly. O_NONBLOCK, because nothing here may wait.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _LONGEST)
    finally:
        os.close(descriptor)
