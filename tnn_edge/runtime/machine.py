"""What this machine is, as far as plans and timings depend on it."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

__all__ = ["cpu_features", "describe_machine"]

_RELEVANT = ("avx", "fma", "amx", "f16c", "sse4", "asimd", "neon", "sve", "i8mm", "bf16", "fphp")


def _cpuinfo(keys: tuple[str, ...]) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.partition("\t")[0].strip() in keys), "")


def cpu_features() -> tuple[str, ...]:
    """Vector extensions of the CPU, sorted; ONNX Runtime lays weights out for them."""
    flags = _cpuinfo(("flags", "Features")).split()
    return tuple(sorted(flag for flag in set(flags) if flag.startswith(_RELEVANT)))


def describe_machine() -> dict[str, object]:
    """CPU, cores, vector extensions, system and versions, as JSON-able values."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not on this system
        cores = os.cpu_count() or 1
    versions = {d: metadata.version(d) for d in ("onnxruntime", "onnxruntime-gpu") if _is_installed(d)}
    return {
        "cpu": _cpuinfo(("model name", "Model")) or platform.processor() or platform.machine(),
        "cores": cores,
        "features": list(cpu_features()),
        "os": platform.platform(terse=True),
        "python": platform.python_version(),
        "onnxruntime": next(iter(versions.values()), None),
    }


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
