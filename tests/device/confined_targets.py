"""What the tests run in a child process: functions that behave, fail, crash, fill the memory or never end."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import tnn_edge.errors


def echo(**arguments: Any) -> dict[str, Any]:
    return arguments


def surroundings() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "session": os.getsid(0),
        "niceness": os.nice(0),
        "path": sys.path,
        "core": resource.getrlimit(resource.RLIMIT_CORE),
        "cpu": resource.getrlimit(resource.RLIMIT_CPU)[0],
        "memory": resource.getrlimit(resource.RLIMIT_AS)[0],
        "environment": {name: os.environ.get(name) for name in ("MALLOC_ARENA_MAX", "OMP_NUM_THREADS", "FROM_PARENT")},
        "main": list(vars(sys.modules["__main__"])),
        "heavy": sorted({"numpy", "onnx", "onnxruntime"} & set(sys.modules)),
    }


class OurOwn(tnn_edge.errors.SchemaError):
    """A class that the parent does not know."""


def fail(kind: str, message: str) -> NoReturn:
    kinds = vars(tnn_edge.errors) | {"OurOwn": OurOwn, "KeyError": KeyError, "ValueError": ValueError}
    raise kinds[kind](message)


def crash() -> None:
    ctypes.string_at(0)


def end_by(number: int, words: str = "") -> None:
    sys.stderr.write(words)
    sys.stderr.flush()
    os.kill(os.getpid(), number)


def leave(code: int) -> NoReturn:
    os._exit(code)


def answer(text: str) -> NoReturn:
    """Write an answer that is not ours, and end as if all were well."""
    os.write(int(sys.argv[1]), text.encode())
    os._exit(0)


def answer_with_what_json_cannot_say() -> Any:
    return {1, 2}


def fill(n_bytes: int) -> int:
    return len(bytearray(n_bytes))


def burn() -> NoReturn:
    while True:
        pass


def wait_for_ever() -> NoReturn:
    signal.pause()
    raise AssertionError("no signal ends this wait but one that ends the process")


def burn_without_the_gil() -> None:
    """Spend the time in C, as a large convolution does, and let no Python code run."""
    ctypes.PyDLL(None).usleep(60_000_000)


def print_much(n_lines: int) -> int:
    for _ in range(n_lines):
        sys.stdout.write("a library's chatter that would fill a pipe\n")
    return n_lines


def have_a_child(target: str, pid_file: str) -> NoReturn:
    """Run a function in a child of this process, say which, and wait; for a parent to be killed in."""
    from tnn_edge.runtime.installing.confined import (  # here, as the room that it lies in takes long to import
        Confined,
        Limits,
    )

    limits = Limits(address_space_bytes=None, cpu_seconds=None, wall_seconds=60)
    child = Confined(f"{__name__}:{target}", {}, limits, what="the child")
    Path(pid_file).write_text(str(child._process.pid))
    child.result()
    raise AssertionError("the child never ends by itself")
