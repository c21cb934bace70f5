"""ONNX Runtime sessions on the device that was asked for, or an error."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tnn_edge.errors import MissingExtraError, PlanError, ProviderError

if TYPE_CHECKING:
    import onnxruntime

__all__ = [
    "Device",
    "SessionSettings",
    "check_distribution",
    "choose_device",
    "open_session",
    "session_options",
    "share_arena",
]

Device = Literal["cpu", "cuda"]
_PROVIDERS: dict[str, str] = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CUDA_OPTIONS = {
    "use_tf32": "0",  # it rounds products to 10 bits, which golden outputs would show
    "cudnn_conv_algo_search": "HEURISTIC",  # exhaustive search costs seconds for each operating point
}
_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")

_arena_lock = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class SessionSettings:
    """How sessions use the CPU.

    Attributes:
        threads: threads that compute one inference. One, because every resident session has a pool of its own and a
            camera's device has other work. (ONNX Runtime's global pool is no way out: its threads always spin, and all
            other sessions of the process would have to use it.)
        spinning: threads wait busily for the next call. Off, because it burns the energy that throttling saves.
        flush_denormals: numbers too small for full precision are taken as 0, which some CPUs compute much faster. Off,
            because it changes the arithmetic of the calling thread too, NumPy's included.
    """

    threads: int = 1
    spinning: bool = False
    flush_denormals: bool = False

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, got {self.threads}")


def check_distribution() -> None:
    """Make sure that exactly one onnxruntime distribution is installed.

    Raises:
        MissingExtraError: there is none.
        ProviderError: there are two; they overwrite each other's files, and CUDA is silently gone.
    """
    found = []
    for name in _DISTRIBUTIONS:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    if not found:
        raise MissingExtraError("running a network needs ONNX Runtime: pip install 'tnn-edge[cpu]' or 'tnn-edge[gpu]'")
    if len(found) > 1:
        raise ProviderError(
            f"{' and '.join(found)} are both installed and overwrite each other: pip uninstall {' '.join(found)}, "
            "then pip install 'tnn-edge[cpu]' or 'tnn-edge[gpu]'"
        )


def choose_device(device: Literal["auto", "cpu", "cuda"]) -> Device:
    """The device to run on: ``auto`` is CUDA where this ONNX Runtime has it.

    Raises:
        ProviderError: CUDA was asked for and this ONNX Runtime does not have it.
    """
    check_distribution()
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda" if _PROVIDERS["cuda"] in available else "cpu"
    if device not in _PROVIDERS:
        raise ProviderError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if _PROVIDERS[device] not in available:
        raise ProviderError(
            f"asked for {device}, this ONNX Runtime offers {', '.join(available)}; "
            "install tnn-edge[gpu] instead of [cpu], or pass device='cpu' (--device cpu)"
        )
    return device


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


def open_session(
    model: Path | bytes, options: onnxruntime.SessionOptions, device: Device
) -> onnxruntime.InferenceSession:
    """Create a session and read back where it runs.

    Raises:
        PlanError: ONNX Runtime refuses the model.
        ProviderError: the session does not run on `device`.
    """
    import onnxruntime

    cpu: tuple[str, dict[str, str]] = (_PROVIDERS["cpu"], {})
    providers = [cpu] if device == "cpu" else [(_PROVIDERS[device], _CUDA_OPTIONS), cpu]
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = onnxruntime.InferenceSession(source, options, providers=providers)
    except Exception as err:  # ONNX Runtime's errors share no other base
        name = "a linked graph" if isinstance(model, bytes) else str(model)
        raise PlanError(f"ONNX Runtime cannot load {name}: {str(err).partition(chr(10))[0]}") from err
    active = session.get_providers()[0]
    if active != _PROVIDERS[device]:
        raise ProviderError(
            f"asked for {device}, the session runs on {active}; pass device='cpu' (--device cpu) to accept that"
        )
    return session
