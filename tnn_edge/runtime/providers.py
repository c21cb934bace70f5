"""ONNX Runtime sessions on the device that was asked for, or an error."""

from __future__ import annotations

import io
import logging
import threading
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from tnn_edge.errors import PlanError, ProviderError

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "PROVIDERS",
    "Device",
    "SessionSettings",
    "cuda_options",
    "open_session",
    "session_options",
    "share_arena",
]

Device = Literal["cpu", "cuda"]
PROVIDERS: Final[dict[str, str]] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}

_log = logging.getLogger(__name__)
_arena_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How sessions use the processors.

    Attributes:
        threads: threads that compute one inference. One, because every resident session has a pool of its own and a
            camera's device has other work. (ONNX Runtime's global pool is no way out: its threads always spin, and all
            other sessions of the process would have to use it.)
        spinning: threads wait busily for the next call. Off, because it burns the energy that throttling saves.
        flush_denormals: numbers too small for full precision are taken as 0, which some CPUs compute much faster. Off,
            because it changes the arithmetic of the calling thread too, NumPy's included.
        tf32: CUDA may round factors of products to 10 bits. Off: logits then keep to 1e-6 of the largest, with it to
            1e-3, about twice as fast.
        cuda_graphs: CUDA runs an operating point as one recorded graph, and not kernel by kernel.
    """

    threads: int = 1
    spinning: bool = False
    flush_denormals: bool = False
    tf32: bool = False
    cuda_graphs: bool = True

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


def session_options(settings: SessionSettings, *, optimise: bool) -> onnxruntime.SessionOptions:
    """Options of a session; `optimise` runs all graph optimisations, else the graph is taken as it is."""
    import onnxruntime

    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.intra_op_num_threads = settings.threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if settings.spinning else "0")
    if settings.flush_denormals:
        options.add_session_config_entry("session.set_denormal_as_zero", "1")
    return options


def share_arena(options: onnxruntime.SessionOptions) -> None:
    """Let a session take memory for what it computes from one arena of this process.

    A session then runs in what the session before it has left, where each would keep an arena of its own.
    """
    with _arena_lock:
        _register_arena()
    options.add_session_config_entry("session.use_env_allocators", "1")


@cache
def _register_arena() -> None:
    """Once in a process."""
    import onnxruntime

    kind = onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    onnxruntime.create_and_register_allocator(
        onnxruntime.OrtMemoryInfo("Cpu", kind, 0, onnxruntime.OrtMemType.DEFAULT), None
    )


def cuda_options(settings: SessionSettings, stream: int | None = None) -> dict[str, str]:
    """Options of the CUDA provider. ONNX Runtime knows all of them since 1.20.

    Args:
        settings: of the session.
        stream: address of the CUDA stream to work in; None leaves one to ONNX Runtime, which then records no graph.
    """
    options = {
        "device_id": "0",
        "use_tf32": "1" if settings.tf32 else "0",
        "cudnn_conv_algo_search": "HEURISTIC",  # an exhaustive search costs more to start, and runs no faster
        "arena_extend_strategy": "kSameAsRequested",  # by default each arena doubles, and each session has one
    }
    if stream is not None:
        options["user_compute_stream"] = str(stream)
        options["enable_cuda_graph"] = "1" if settings.cuda_graphs else "0"
    return options


def open_session(
    model: Path | bytes,
    options: onnxruntime.SessionOptions,
    device: Device,
    cuda: Mapping[str, str] | None = None,
) -> onnxruntime.InferenceSession:
    """Create a session and read back where it runs.

    Args:
        model: a file, or a serialised model.
        options: as `session_options` gives them.
        device: where to run.
        cuda: options of the CUDA provider; by default those of plain settings.

    Raises:
        PlanError: ONNX Runtime refuses the model.
        ProviderError: the session does not run on `device`.
    """
    import onnxruntime

    cpu: tuple[str, dict[str, str]] = (PROVIDERS["cpu"], {})
    providers = [cpu]
    if device == "cuda":
        _prepare_cuda()
        providers.insert(0, (PROVIDERS[device], dict(cuda or cuda_options(SessionSettings()))))
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as err:  # ONNX Runtime's errors share no other base
        name = "a linked graph" if isinstance(model, bytes) else str(model)
        raise PlanError(f"ONNX Runtime cannot load {name}: {str(err).partition(chr(10))[0]}") from err
    active = session.get_providers()[0]
    if active != PROVIDERS[device]:
        raise ProviderError(
            f"asked for {device}, the session runs on {active}; pass device='cpu' (--device cpu) to accept that"
        )
    return session


@cache
def _prepare_cuda() -> None:
    """Load CUDA's libraries from where pip puts them, once in a process."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)  # it warns about each session
    if hasattr(onnxruntime, "preload_dlls"):  # since 1.21
        said = io.StringIO()
        with redirect_stdout(said):
            onnxruntime.preload_dlls()
        _log.debug("%s", said.getvalue())
