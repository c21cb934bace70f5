"""Run one of our functions in a child process that may use only so much memory and time.

ONNX Runtime is a large C++ library; a model that makes it crash, or fill the memory, must take a child with it and not
the camera. The child is a fresh interpreter, so nothing of the caller's program is imported again, and what passes
between the two is JSON, so that nothing is unpickled.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import tnn_edge.errors
from tnn_edge.errors import BundleError, PlanError, TnnEdgeError
from tnn_edge.printable import printable

__all__ = ["Confined", "Limits", "confined"]

_PROGRAM = Path(__file__).with_name("confined_child.py")
_ENVIRONMENT = {
    "MALLOC_ARENA_MAX": "2",  # an arena reserves 64 MB of address space, and glibc makes eight for each core
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",  # NumPy's reserves a buffer for each thread
}
_GRACE_SECONDS = 5.0  # for a child that is too stuck to hear its own clock
_MAX_ANSWER_BYTES = 2**20
_TAIL_BYTES = 4096
_MAX_WORDS = 200
_WAY_OUT = "do not use this bundle; export it again"
_NO_MEMORY = re.compile(
    r"bad.alloc|MemoryError|allocate memory|memory allocation|failed to map segment"
    r"|arena alloc failed|failed to serialize proto",
    re.IGNORECASE,
)
"""What the standard libraries, NumPy, ONNX Runtime and protobuf say when there is no more."""
_OWN_ERRORS: dict[str, type[TnnEdgeError]] = {name: getattr(tnn_edge.errors, name) for name in tnn_edge.errors.__all__}


@dataclass(frozen=True)
class Limits:
    """What a child may use.

    Attributes:
        address_space_bytes: mapped memory, used or not, with libraries and thread stacks; None for no limit.
        cpu_seconds: of all its threads; None for no limit.
        wall_seconds: from its start to its end.
    """

    address_space_bytes: int | None
    cpu_seconds: int | None
    wall_seconds: float


class Confined:
    """A function that runs in a child. A context manager: leaving it ends the child.

    The child ends with this process, whatever ends it, and does not hear Ctrl-C in the terminal.

    Args:
        target: ``module:function``; it takes the arguments by keyword and returns what JSON can say.
        arguments: what JSON can say.
        limits: on the child.
        what: what runs, for errors: "the probe of B".
        way_out: for errors.
        error: class of the errors that are not the function's own.
        niceness: added to this process's; a background job's is 19.
    """

    def __init__(
        self,
        target: str,
        arguments: Mapping[str, Any],
        limits: Limits,
        *,
        what: str,
        way_out: str = _WAY_OUT,
        error: type[TnnEdgeError] = BundleError,
        niceness: int = 0,
    ) -> None:
        self._limits, self._what, self._way_out, self._error = limits, what, way_out, error
        request = {"target": target, "arguments": dict(arguments), "path": [*map(str, sys.path)], "niceness": niceness}
        line = json.dumps(request | asdict(limits)).encode() + b"\n"
        self._said: dict[str, Any] | None = None
        with ExitStack() as opened:
            try:
                self._answer, self._stderr = (opened.enter_context(tempfile.TemporaryFile()) for _ in range(2))
                self._process = _started(self._answer.fileno(), self._stderr.fileno())
            except OSError as err:
                raise PlanError(f"{what} cannot be started: {err.strerror}; free memory or disk space") from err
            opened.pop_all()  # `cancel` closes them
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(line)
            self._process.stdin.flush()
        except BrokenPipeError:  # it is dead already, and the result says of what
            pass
        except BaseException:
            self.cancel()
            raise

    def __enter__(self) -> Confined:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel()

    def poll(self) -> bool:
        """Has the child ended, so that `result` returns at once?"""
        return self._process.poll() is not None

    def result(self) -> Any:
        """Wait for the child and return what the function returned. An interrupt meanwhile ends the child.

        Raises:
            TnnEdgeError: the function's own, of the class it raised; of class `error` where the function failed
                otherwise, the child reached a limit, crashed, gave no answer, or was cancelled.
        """
        if self._said is None:
            try:
                self._process.wait(self._limits.wall_seconds + _GRACE_SECONDS)
                self._said = self._heard(self._process.returncode)
            except subprocess.TimeoutExpired:
                self._said = {"fault": self._too_long()}
            finally:
                self.cancel()
        if "result" in self._said:
            return self._said["result"]
        if (kind := _OWN_ERRORS.get(str(self._said.get("error")))) is not None:
            raise kind(str(self._said["message"]))
        raise self._error(f"{self._what} {self._said['fault']}; {self._way_out}")

    def cancel(self) -> None:
        """End the child, if it still runs."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._said = self._said or {"fault": "was cancelled"}
        for file in (self._process.stdin, self._answer, self._stderr):
            if file is not None:
                with suppress(BrokenPipeError):  # of a request that was not read
                    file.close()

    def _heard(self, code: int) -> dict[str, Any]:
        """What the child said, or the fault that its end shows."""
        self._answer.seek(0)
        said = _parsed(self._answer.read(_MAX_ANSWER_BYTES + 1)) if code == 0 else {}
        if "result" in said or (str(said.get("error")) in _OWN_ERRORS and "message" in said):
            return said
        if "memory" in said:
            return {"fault": self._too_large()}
        fault = f"failed: {said['failure']}" if "failure" in said else self._end(code)
        return {"fault": self._too_large() if _NO_MEMORY.search(fault) else fault}

    def _end(self, code: int) -> str:
        if code == 0:
            return f"gave an answer that cannot be read{self._last_words()}"
        if code > 0:
            return f"ended with exit code {code} and no answer{self._last_words()}"
        if -code == signal.SIGALRM:
            return self._too_long()
        if -code == signal.SIGXCPU:
            return f"ran longer than {self._limits.cpu_seconds} s of CPU time"
        if -code == signal.SIGKILL:
            return "was killed by SIGKILL, as the system does when it runs out of memory"
        name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
        return f"was killed by {name}{self._last_words()}"

    def _too_long(self) -> str:
        return f"ran longer than {self._limits.wall_seconds:g} s"

    def _too_large(self) -> str:
        if self._limits.address_space_bytes is None:
            return "needs more memory than there is"
        return f"needs more than {self._limits.address_space_bytes / 2**20:.0f} MB of memory"

    def _last_words(self) -> str:
        """The last line that the child printed, in brackets; libraries say there why they abort."""
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _TAIL_BYTES))
        lines = self._stderr.read(_TAIL_BYTES).decode(errors="replace").strip().splitlines()
        return f" ({printable(lines[-1].strip())[:_MAX_WORDS]})" if lines else ""


def _started(answer: int, output: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 -- our own program, run by the interpreter that runs us
        [sys.executable, "-I", "-X", f"utf8={sys.flags.utf8_mode}", str(_PROGRAM), str(answer)],
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        pass_fds=(answer,),
        start_new_session=True,
        env=os.environ | _ENVIRONMENT,
    )


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        said = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def confined(
    target: str,
    arguments: Mapping[str, Any],
    limits: Limits,
    *,
    what: str,
    way_out: str = _WAY_OUT,
    error: type[TnnEdgeError] = BundleError,
) -> Any:
    """Run a function in a child and wait for it; see `Confined`."""
    with Confined(target, arguments, limits, what=what, way_out=way_out, error=error) as child:
        return child.result()
