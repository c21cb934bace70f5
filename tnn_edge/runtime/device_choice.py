"""Which device to run on: what the installed ONNX Runtime offers, and whether it works."""

from __future__ import annotations

from functools import cache
from importlib import metadata
from typing import Literal

from tnn_edge.errors import MissingExtraError, PlanError, ProviderError
from tnn_edge.runtime.cuda.driver import cuda_driver
from tnn_edge.runtime.providers import PROVIDERS, Device, SessionSettings, open_session, session_options

__all__ = ["check_distribution", "choose_device", "unavailable_cuda"]

_DISTRIBUTIONS = ("onnxruntime", "onnxruntime-gpu")


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
    """The device to run on: ``auto`` is CUDA where it works.

    Raises:
        ProviderError: CUDA was asked for, and this ONNX Runtime does not have it or it does not work.
    """
    check_distribution()
    import onnxruntime

    available = onnxruntime.get_available_providers()
    if device == "auto":
        return "cuda" if PROVIDERS["cuda"] in available and unavailable_cuda() is None else "cpu"
    if device not in PROVIDERS:
        raise ProviderError(f"device must be 'auto', 'cpu' or 'cuda', got {device!r}")
    if PROVIDERS[device] not in available:
        raise ProviderError(
            f"asked for {device}, this ONNX Runtime offers {', '.join(available)}; "
            "install tnn-edge[gpu] instead of [cpu], or pass device='cpu' (--device cpu)"
        )
    if device == "cuda" and (fault := unavailable_cuda()) is not None:
        raise ProviderError(f"CUDA does not work here: {fault}; tnn-edge doctor says why, device='cpu' does without it")
    return device


def unavailable_cuda() -> str | None:
    """Why nothing runs on CUDA though this ONNX Runtime is made for it; None where it is not, or something does."""
    import onnxruntime

    return _cuda_fault() if PROVIDERS["cuda"] in onnxruntime.get_available_providers() else None


@cache
def _cuda_fault() -> str | None:
    """Found out once in a process, because it starts CUDA."""
    from onnx import TensorProto, helper

    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "probe", value[:1], value[1:])
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    try:
        cuda_driver()
        open_session(probe.SerializeToString(), session_options(SessionSettings(), optimise=False), "cuda")
    except (ProviderError, PlanError) as err:
        return str(err)
    return None
