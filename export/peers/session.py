"""An ordinary ONNX Runtime session, as those who use no throttleable runtime open it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from export.peers.ways import Answer, FloatArray
from export.peers.work import Work

__all__ = ["BoundSession", "open_choice", "open_session"]


def open_session(path: Path, threads: int) -> onnxruntime.InferenceSession:
    """All graph optimisations, threads that do not spin: what our own plans are optimised and run with."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class BoundSession:
    """A session that reads and writes fixed memory, so that a call allocates nothing.

    Args:
        session: with the image as its first input, a scalar choice of operating point as its second where it has one.
    """

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        image, *choices = session.get_inputs()
        (given,) = session.get_outputs()
        self._session: Any = session
        self._x = np.zeros(image.shape, dtype=np.float32)
        self._logits = np.zeros(given.shape, dtype=np.float32)
        self._choice = np.zeros((), dtype=np.int64)
        self._binding = session.io_binding()
        self._binding.bind_input(image.name, "cpu", 0, np.float32, self._x.shape, self._x.ctypes.data)
        for choice in choices:
            self._binding.bind_input(choice.name, "cpu", 0, np.int64, (), self._choice.ctypes.data)
        self._binding.bind_output(given.name, "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)

    def __call__(self, x: FloatArray, choice: int = 0) -> FloatArray:
        np.copyto(self._x, x)
        self._choice[()] = choice
        self._session.run_with_iobinding(self._binding)
        return self._logits.copy()


def open_choice(path: Path, work: Work, threads: int) -> Answer:
    """A graph of `export.peers.if_graph` whose networks are the operating points of the dial."""
    session = BoundSession(open_session(path, threads))
    choices = {u: work.distinct_points.index(work.point_at(u)) for u in work.dial}
    return lambda x, u: session(x, choices[u])
