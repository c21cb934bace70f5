"""Try a package in a child process: importing it may end the process, hang it, or fill the screen."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["Broken", "plain", "try_apart"]

_CHILD = """
import importlib, json, sys
sys.path[:] = json.loads(sys.argv[1])
try:
    said = {"answer": importlib.import_module(sys.argv[2]).probe()}
except BaseException as err:
    said = {"raised": f"{type(err).__name__}: {err}"}
print("\\n" + json.dumps(said))
"""
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Broken:
    """How a child process failed.

    Attributes:
        how: in one line.
        text: everything it said about it.
        signal: name of the signal that ended it.
    """

    how: str
    text: str
    signal: str | None = None


def try_apart(module: str, where: Surroundings) -> dict[str, Any] | Broken:
    """What `probe()` of a module answers in a process of its own, which sees the same packages."""
    command = [sys.executable, "-c", _CHILD, json.dumps(where.path), module]
    try:
        done = subprocess.run(  # noqa: S603 -- our own program
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=where.program_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Broken(f"no answer within {where.program_s:g} s", "")
    if done.returncode < 0:
        name = _signal_name(-done.returncode)
        return Broken(f"the process was ended by {name}", done.stderr, name)
    last = done.stdout.rstrip().rpartition("\n")[2]
    try:
        said = json.loads(last)
    except ValueError:
        text = plain(done.stderr)
        return Broken(f"exit code {done.returncode}, {text.rpartition(chr(10))[2] or 'without a word'}", text)
    if "raised" not in said:
        answer: dict[str, Any] = said["answer"]
        return answer
    raised: str = said["raised"].strip()
    return Broken(_first_line(raised), f"{raised}\n{plain(done.stderr)}")


def plain(text: str) -> str:
    """What a program said, without its colours and blank ends."""
    return _COLOURS.sub("", text).strip()


def _first_line(text: str) -> str:
    """NumPy begins its errors with a blank line."""
    kind, _, rest = text.partition(":")
    lines = rest.strip().splitlines()
    return f"{kind}: {lines[0]}" if lines else kind


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
