"""The machine a training ran on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

__all__ = ["describe_machine"]


def describe_machine() -> dict[str, Any]:
    """CPU, threads and versions, for the record of a run."""
    cpu = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(":")[2].strip() if lines else cpu
    return {
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }
