"""Sessions on CUDA: all in one stream, each recorded as graphs with fixed addresses."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tnn_edge.errors import PlanError
from tnn_edge.runtime.cuda.device_weights import DeviceWeights
from tnn_edge.runtime.cuda.driver import CudaBuffer, cuda_driver
from tnn_edge.runtime.providers import SessionSettings, cuda_options, open_session, session_options
from tnn_edge.runtime.stored_tensor import StoredTensor

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["bind_buffers", "open_cuda_session", "run_options"]

_NO_GRAPH = -1


@dataclass(frozen=True)
class CudaSession:
    """A session and what it took.

    Attributes:
        session: of ONNX Runtime.
        n_bytes: memory of the GPU that it took, as far as nobody else took or gave any meanwhile.
    """

    session: onnxruntime.InferenceSession
    n_bytes: int


def open_cuda_session(
    plan: Path, settings: SessionSettings, tensors: Iterable[StoredTensor], weights: DeviceWeights | None
) -> CudaSession:
    """Open a plan in the stream of this process, and run it once, so that algorithms are chosen and memory is taken.

    Args:
        plan: an optimised graph.
        settings: of the session; where ONNX Runtime cannot record this graph, it runs kernel by kernel.
        tensors: of the plan.
        weights: where they are; None lets the session load its own.

    Raises:
        PlanError: ONNX Runtime refuses the plan, or cannot run it.
        ProviderError: the session does not run on CUDA.
    """
    driver = cuda_driver()
    before = driver.used_bytes()
    with driver.turn():
        options = session_options(settings, optimise=False)
        if weights is not None:
            weights.give(options, tensors)
        recorded, plain = (
            cuda_options(settings, driver.stream) | {"enable_cuda_graph": enabled} for enabled in ("1", "0")
        )
        try:
            session = open_session(plan, options, "cuda", recorded if settings.cuda_graphs else plain)
        except PlanError:
            if not settings.cuda_graphs:
                raise
            session = open_session(plan, options, "cuda", plain)
    x, logits = (CudaBuffer(driver, tuple(value.shape)) for value in (*session.get_inputs(), *session.get_outputs()))
    with driver.turn():
        driver.upload(x)
        try:
            session.run_with_iobinding(bind_buffers(session, x, logits), run_options(_NO_GRAPH))
            driver.wait()
        except Exception as err:  # ONNX Runtime's errors share no other base
            raise PlanError(f"ONNX Runtime cannot run {plan} on CUDA: {str(err).partition(chr(10))[0]}") from err
    return CudaSession(session, max(0, driver.used_bytes() - before))


def bind_buffers(session: Any, x: CudaBuffer, logits: CudaBuffer) -> Any:
    """A binding of a session to memory of the GPU."""
    binding = session.io_binding()
    (taken,), (given,) = session.get_inputs(), session.get_outputs()
    kind = cuda_driver().kind
    binding.bind_input(taken.name, kind, 0, np.float32, _shape(x), x.device)
    binding.bind_output(given.name, kind, 0, np.float32, _shape(logits), logits.device)
    return binding


def run_options(graph: int) -> Any:
    """Options of a run that leaves waiting for the stream to the caller.

    Args:
        graph: number of the recorded graph, of those of this session, that belongs to the memory it is bound to; -1
            records none.
    """
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


def _shape(buffer: CudaBuffer) -> Sequence[int]:
    return buffer.host.shape
