"""The providers of an ONNX Runtime that can be imported: on which a session runs, and why on another it does not."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tnn_edge.doctor.apart import plain
from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.import_failures import Reason
from tnn_edge.doctor.nvidia import find_nvidia_gpu
from tnn_edge.doctor.onnxruntime_wheels import Wheel
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_providers", "summary"]

_NAME = "providers"
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_TO_CPU = "pip uninstall -y onnxruntime-gpu && pip install 'tnn-edge[cpu]'"
_TO_GPU = "pip uninstall -y onnxruntime && pip install 'tnn-edge[gpu]'"
_SUMMARIES = (
    r"with error: (.+)",
    r"(CUDA failure \d+: [^;\n]+)",
    r"^[-\d]+ [\d:.]+ \[\S+ [^\]]*\] (.+)",
    r"^(.*\S.*)$",
)
_NEEDS = re.compile(r"Require (cuDNN \S+ and CUDA [\d.]+)")


def check_providers(answers: Mapping[str, str | None], wheel: Wheel, where: Surroundings) -> Iterator[Finding]:
    """Judge what each provider answered.

    Args:
        answers: by provider, what ONNX Runtime said when no session ran on it; None where one did.
        wheel: the distribution that is installed.
        where: with the device that networks are to run on.
    """
    if (refusal := answers.get(_CPU, "it is not listed")) is not None:
        cause = "the CPU provider is part of every ONNX Runtime; this one is damaged"
        mend = f"pip install --force-reinstall --no-deps {wheel.name}=={wheel.version}"
        yield fault(_NAME, FaultCode.PROVIDER, f"{_CPU}: {summary(refusal)}", cause=cause, mend=mend)
    cuda = _failing_cuda(answers[_CUDA], where) if _CUDA in answers else _absent_cuda(wheel, where)
    if cuda is not None:
        yield cuda
    elif refusal is None:
        yield ok(_NAME, _seen(answers))


def summary(refusal: str) -> str:
    """One line of what ONNX Runtime said."""
    text = plain(refusal)
    for pattern in _SUMMARIES:
        if (match := re.search(pattern, text, re.MULTILINE)) is not None:
            return match[1].strip()
    return "no reason given"


def _seen(answers: Mapping[str, str | None]) -> str:
    running = [name for name, refusal in answers.items() if refusal is None]
    parts = [f"a session runs on {', '.join(running)}", f"device auto takes {'cuda' if _CUDA in running else 'cpu'}"]
    unused = {name: refusal for name, refusal in answers.items() if refusal is not None and name not in {_CPU, _CUDA}}
    parts += [f"{name}, which tnn-edge does not use, refuses ({summary(text)})" for name, text in unused.items()]
    return "; ".join(parts)


def _failing_cuda(refusal: str | None, where: Surroundings) -> Finding | None:
    if refusal is None:
        return None
    reason = _reason(refusal, where)
    seen = f"{_CUDA} is listed and does not start: {summary(refusal)}"
    if where.device == "cpu":
        return note(_NAME, seen, cause=reason.cause, mend=reason.mend)
    cause = reason.cause if where.device == "cuda" else f"{reason.cause}; device auto takes cpu instead"
    return fault(_NAME, FaultCode.PROVIDER, seen, cause=cause, mend=reason.mend)


def _absent_cuda(wheel: Wheel, where: Surroundings) -> Finding | None:
    seen = f"{_CUDA} is not listed"
    if where.device == "cpu":
        return None
    if wheel.name == "onnxruntime-gpu":
        cause = "the files are not those of onnxruntime-gpu, or this release has none for this machine"
        mend = f"pip install --force-reinstall --no-deps {wheel.name}=={wheel.version}"
        return fault(_NAME, FaultCode.PROVIDER, seen, cause=cause, mend=mend)
    cause = f"{wheel.name} is made for the CPU alone"
    if where.device == "cuda":
        return fault(_NAME, FaultCode.PROVIDER, seen, cause=cause, mend=_TO_GPU)
    if find_nvidia_gpu(where).is_there:
        return note(_NAME, f"this machine has an NVIDIA GPU, and {seen}", cause=cause, mend=_TO_GPU)
    return None


def _reason(refusal: str, where: Surroundings) -> Reason:
    gpu = find_nvidia_gpu(where)
    if not gpu.is_there:
        return Reason("there is no NVIDIA GPU here", f"{_TO_CPU}; in a container: docker run --gpus all")
    if gpu.driver is None:
        return Reason("the GPU's driver is not loaded", "sudo modprobe nvidia; in a container: docker run --gpus all")
    if "driver version is insufficient" in refusal:
        return Reason("the driver is older than this CUDA", "sudo ubuntu-drivers install, then reboot")
    if "out of memory" in refusal:
        return Reason("other programs hold the GPU's memory", "nvidia-smi names them; stop one")
    if "cannot open shared object file" in refusal:
        match = _NEEDS.search(refusal)
        needed = match[1].rstrip(".") if match else "CUDA and cuDNN"
        return Reason(
            f"the driver is there, but not the libraries: ONNX Runtime needs {needed}",
            "install them (on a Jetson: sudo apt install nvidia-jetpack), then export "
            "LD_LIBRARY_PATH=/usr/local/cuda/lib64:$LD_LIBRARY_PATH",
        )
    return Reason("CUDA itself fails", "nvidia-smi must show the GPU; reboot if it does not")
