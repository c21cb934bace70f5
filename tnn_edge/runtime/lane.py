"""Memory that one run at a time uses, and every resident session bound to it, so that a call allocates nothing."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import BundleError
from tnn_edge.runtime.cuda.driver import CudaBuffer, cuda_driver
from tnn_edge.runtime.cuda.session import bind_buffers, run_options
from tnn_edge.runtime.plan_sessions import PlanSessions

__all__ = ["Lane", "open_lane"]

FloatArray = npt.NDArray[np.float32]


class Lane:
    """A lane on the CPU.

    Args:
        sessions: the operating points in memory, bound at once; others when they run first.
        x_shape: of the input.
        n_classes: of the logits.

    Attributes:
        version: of the sessions; with another one the lane holds sessions that have left.
        x: the input, of `x_shape`.
        logits: the output, shape [1, n_classes].
    """

    def __init__(self, sessions: PlanSessions, x_shape: tuple[int, ...], n_classes: int) -> None:
        self.version = sessions.version
        self.x, self.logits = self._memory(x_shape, (1, n_classes))
        self._bound: dict[int, tuple[Any, Any]] = {}
        for i, session in sessions.opened:
            self._bind_once(i, session)

    def run(self, i: int, session: Any, x: FloatArray) -> float:
        """Run a session on x; its output is in `logits`.

        Args:
            i: number of the operating point.
            session: of ONNX Runtime.
            x: of `x_shape`.

        Returns:
            Wall time in milliseconds, without copying x into the lane.
        """
        session, binding = self._bind_once(i, session)
        np.copyto(self.x, x)
        start = time.perf_counter_ns()
        self._call(session, binding)
        return (time.perf_counter_ns() - start) / 1e6

    def _bind_once(self, i: int, session: Any) -> tuple[Any, Any]:
        found = self._bound.get(i)
        if found is None:
            (taken,), (given,) = session.get_inputs(), session.get_outputs()
            if (taken.shape, given.shape) != (list(self.x.shape), list(self.logits.shape)):
                raise BundleError(
                    f"the blocks read {taken.shape} and give {given.shape}, "
                    f"the manifest's input and labels say {list(self.x.shape)} and {list(self.logits.shape)}"
                )
            found = self._bound[i] = (session, self._bind(session))
        return found

    def _memory(self, x_shape: tuple[int, ...], logits_shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        return np.zeros(x_shape, np.float32), np.zeros(logits_shape, np.float32)

    def _bind(self, session: Any) -> Any:
        binding = session.io_binding()
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        binding.bind_input(taken.name, "cpu", 0, np.float32, self.x.shape, self.x.ctypes.data)
        binding.bind_output(given.name, "cpu", 0, np.float32, self.logits.shape, self.logits.ctypes.data)
        return binding

    def _call(self, session: Any, binding: Any) -> None:
        session.run_with_iobinding(binding)


class _CudaLane(Lane):
    """A lane on CUDA: its time is with the copies to the GPU and back.

    Each session records a graph for each lane, because a graph holds the addresses that it was recorded with.
    """

    _numbers = itertools.count(1)

    def _memory(self, x_shape: tuple[int, ...], logits_shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        self._driver = cuda_driver()
        self._buffers = CudaBuffer(self._driver, x_shape), CudaBuffer(self._driver, logits_shape)
        self._options = run_options(next(self._numbers))
        return self._buffers[0].host, self._buffers[1].host

    def _bind(self, session: Any) -> Any:
        binding = bind_buffers(session, *self._buffers)
        self._call(session, binding)  # which records the graph
        return binding

    def _call(self, session: Any, binding: Any) -> None:
        x, logits = self._buffers
        with self._driver.turn():
            self._driver.upload(x)
            session.run_with_iobinding(binding, self._options)
            self._driver.download(logits)
            self._driver.wait()


def open_lane(sessions: PlanSessions, x_shape: tuple[int, ...], n_classes: int) -> Lane:
    """A lane on the device that the sessions run on."""
    return (Lane if sessions.device == "cpu" else _CudaLane)(sessions, x_shape, n_classes)
