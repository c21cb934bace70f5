"""`python -m tests.device.interrupted_runs FOLDER`: runs of FOLDER/camera.toml, each interrupted at another moment.

A moment is a number of calls of Python functions, drawn at random and the same each time, so that no test waits. The
runs are forked from one process, since importing takes longer than running. Each has a folder of its own: its outputs,
stdout, stderr and exit code.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import onnxruntime  # noqa: F401 -- every run needs it

from tnn_edge.cli.main import main

N_LOADING, N_LOOPING = 8, 6
"""Runs that SIGINT meets before and in the loop over frames."""

ROOM, N_LINES_BEFORE = 100_000, 32_000
"""Bytes that a file may have where the disk is full, and lines of 3 bytes that are there already."""


class Calls:
    """Counts calls of Python functions, and does something at one of them.

    Attributes:
        before: calls before the loop over frames.
        total: calls in all.
    """

    def __init__(self, at: int = 0, do: Callable[[], None] = lambda: None) -> None:
        self.before = self.total = 0
        self._is_done = at == 0
        self._at, self._do = at, do

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        if event != "call":
            return
        self.total += 1
        if frame.f_code.co_name == "run_frames":
            self.before = self.total
        if not self._is_done and self.total >= self._at and not is_finalising(frame):
            self._is_done = True
            self._do()


def is_finalising(frame: FrameType | None) -> bool:
    """Whether an object is being deleted, which Python lets nothing interrupt: it prints the error and goes on."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def run(place: Path, calls: Calls, *, lines_before: int = 0, room: int = resource.RLIM_INFINITY) -> None:
    """Run in a child process that hears Ctrl-C, which a shell's background job and its children do not."""
    (place / "out").mkdir(parents=True)
    (place / "out" / "frames.jsonl").write_text("{}\n" * lines_before)
    for shared in ("policy.toml", "sys"):
        (place / shared).symlink_to(f"../{shared}")
    (place / "camera.toml").write_text((place.parent / "camera.toml").read_text())
    if (child := os.fork()) == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        code = end_of(place / "camera.toml", calls)
        (place / "calls").write_text(f"{calls.before} {calls.total}")
        os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    (place / "code").write_text(str(code))


def end_of(config: Path, calls: Calls) -> int:
    """The exit code of one run."""
    sys.argv = ["tnn-edge", "run", str(config), "--json"]
    sys.setprofile(calls)
    try:
        main()
    except SystemExit as err:
        return int(err.code or 0)
    except BaseException:  # noqa: BLE001 -- told as Python itself would
        traceback.print_exc()
    finally:
        sys.setprofile(None)
        sys.stderr.flush()
    return 1


def run_all(folder: Path) -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        end_of(folder / "camera.toml", Calls())  # imports what the children then find imported
    run(folder / "whole", Calls())
    before, total = map(int, (folder / "whole" / "calls").read_text().split())
    rng = random.Random(0)
    for i in range(N_LOADING):
        run(folder / f"loading-{i}", Calls(rng.randrange(1, before), lambda: signal.raise_signal(signal.SIGINT)))
    for i in range(N_LOOPING):
        run(folder / f"looping-{i}", Calls(rng.randrange(before, total), lambda: signal.raise_signal(signal.SIGINT)))
    run(folder / "terminated", Calls((before + total) // 2, lambda: signal.raise_signal(signal.SIGTERM)))
    run(folder / "full", Calls(), lines_before=N_LINES_BEFORE, room=ROOM)


if __name__ == "__main__":
    run_all(Path(sys.argv[1]))
