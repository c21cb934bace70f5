"""The measuring side of a worker process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from export.peers.ways import LABELS, FloatArray
from export.peers.work import Work
from tnn_edge.errors import TnnEdgeError

__all__ = ["Visit", "WayProcess", "interpreter_mb"]

_REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Visit:
    """One setting, asked for once.

    Attributes:
        first_ms: the first answer, which turns the dial.
        steady_ms: the one after it.
        resident_mb: memory of the whole process then.
        logits: shape [classes], where they were asked for.
    """

    first_ms: float
    steady_ms: float
    resident_mb: float
    logits: FloatArray | None = None


def interpreter_mb() -> float:
    """Resident memory of a Python that does nothing else than ask for it, in 10^6 bytes."""
    code = "print([line.split()[1] for line in open('/proc/self/smaps_rollup') if line.startswith('Rss:')][0])"
    told = subprocess.run(  # noqa: S603 (our own program)
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return int(told.stdout) * 1024 / 1e6


class WayProcess:
    """A way in a process of its own. A context manager.

    Attributes:
        unavailable: why this machine cannot run the way, None where it can.
        load_ms: time from its first import until it was ready to answer.
        libraries_mb: resident memory when its libraries were imported and nothing was loaded.
    """

    def __init__(self, name: str, work: Work, threads: int) -> None:
        self.name = name
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in `__exit__`)
        pools = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self._process = subprocess.Popen(  # noqa: S603 (our own program)
            [sys.executable, "-m", "export.peers.worker", name, str(work.folder), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            cwd=_REPOSITORY, env={**os.environ, **pools},
        )  # fmt: skip
        try:
            ready = self._reply()
        except BaseException:
            self.close()
            raise
        self.unavailable: str | None = ready.get("unavailable")
        self.load_ms = float(ready.get("load_ms", 0.0))
        self.libraries_mb = float(ready.get("libraries_mb", 0.0))

    def __enter__(self) -> WayProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def visit(self, u: float, *, image: int, after: float | None = None, wants_logits: bool = False) -> Visit:
        """Ask for an image at u.

        Args:
            u: a setting of the dial.
            image: index of the image.
            after: the setting to switch from.
            wants_logits: send the answer too.

        Raises:
            TnnEdgeError: the process ended.
        """
        assert self._process.stdin is not None
        request = {"u": u, "image": image, "after": after, "wants_logits": wants_logits}
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as err:
            raise self._ended() from err
        reply = self._reply()
        logits = np.array(reply["logits"], dtype=np.float32) if wants_logits else None
        return Visit(reply["first_ms"], reply["steady_ms"], reply["resident_mb"], logits)

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended()
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _ended(self) -> TnnEdgeError:
        code = self._process.wait()
        self._errors.seek(0)
        told = self._errors.read().decode(errors="replace").strip().splitlines()
        return TnnEdgeError(
            f"{LABELS[self.name]}: its process ended with code {code}: {told[-1] if told else 'no word'}"
        )
