"""The child's side of `tnn_edge.runtime.installing.confined`: a program that limits itself, runs a function, answers.

It imports nothing but the standard library until its limits hold, so that they bound what is imported too.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import resource
import select
import signal
import sys
from typing import Any

_ENDS_US = (signal.SIGALRM, signal.SIGIO, signal.SIGXCPU)
_CPU_GRACE_SECONDS = 1  # SIGXCPU at the limit, SIGKILL this much later


def main() -> None:
    """Read a request from stdin, and write the answer to the file descriptor that the first argument names."""
    request = json.loads(sys.stdin.buffer.readline())
    _limit_oneself(request)
    _end_with_the_parent(sys.stdin.fileno())
    sys.path[:] = request["path"]
    answer = json.dumps(_answer(request["target"], request["arguments"])).encode()
    with os.fdopen(int(sys.argv[1]), "wb") as file:
        file.write(answer)
    os._exit(0)  # an answer was given: nothing that a library does at exit may turn it into a crash


def _limit_oneself(request: dict[str, Any]) -> None:
    for number in _ENDS_US:  # a parent's SIG_IGN outlives exec
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.nice(request["niceness"])
    signal.setitimer(signal.ITIMER_REAL, request["wall_seconds"])
    _lower(resource.RLIMIT_CORE, 0)
    if (seconds := request["cpu_seconds"]) is not None:
        _lower(resource.RLIMIT_CPU, seconds, seconds + _CPU_GRACE_SECONDS)
    if (n_bytes := request["address_space_bytes"]) is not None:
        _lower(resource.RLIMIT_AS, n_bytes)


def _lower(which: int, soft: int, hard: int | None = None) -> None:
    """Set a limit, or keep the one that is there where it is lower."""
    _, old = resource.getrlimit(which)
    wanted = (soft, soft if hard is None else hard)
    resource.setrlimit(which, wanted if old == resource.RLIM_INFINITY else (min(soft, old), min(wanted[1], old)))


def _end_with_the_parent(pipe: int) -> None:
    """Let the kernel send SIGIO, which ends this process, when the parent's end of the pipe closes.

    A thread that waits for that would need the GIL, which ONNX Runtime holds while it builds a session; and
    PR_SET_PDEATHSIG fires when the parent's *thread* ends.
    """
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:  # it closed before we listened
        os._exit(1)


def _answer(target: str, arguments: dict[str, Any]) -> dict[str, Any]:
    module, _, name = target.partition(":")
    try:
        return {"result": getattr(importlib.import_module(module), name)(**arguments)}
    except MemoryError:
        return {"memory": True}
    except Exception as err:  # noqa: BLE001 -- the parent raises it
        import tnn_edge.errors

        known = [kind.__name__ for kind in type(err).__mro__ if kind.__module__ == tnn_edge.errors.__name__]
        line = str(err).strip().partition("\n")[0]
        if known:
            return {"error": known[0], "message": str(err)}
        return {"failure": f"{type(err).__name__}: {line}" if line else type(err).__name__}


if __name__ == "__main__":
    main()
