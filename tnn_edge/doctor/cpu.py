"""The processor: vector extensions that cost speed where they are missing, and how many cores this process may use."""

from __future__ import annotations

import os
import platform
from collections.abc import Collection, Iterator

from tnn_edge.doctor.cgroup import group_limits
from tnn_edge.doctor.finding import Finding, note, ok
from tnn_edge.doctor.rooms import load_room
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_cores", "check_features", "judge_features"]

_Names = dict[str, tuple[str, ...]]

_X86: _Names = {"AVX2": ("avx2",), "FMA": ("fma",)}
_X86_INT8: _Names = {"VNNI": ("avx512_vnni", "avx_vnni"), "AMX": ("amx_int8",)}
_X86_MORE: _Names = {"AVX-512": ("avx512f",)}
_ARM: _Names = {"NEON": ("asimd", "neon")}
_ARM_INT8: _Names = {"dotprod": ("asimddp",), "i8mm": ("i8mm",)}
_ARM_MORE: _Names = {"SVE": ("sve",), "bf16": ("bf16",)}
_FAMILIES: dict[str, tuple[_Names, _Names, _Names]] = {
    "x86_64": (_X86, _X86_INT8, _X86_MORE),
    "AMD64": (_X86, _X86_INT8, _X86_MORE),
    "aarch64": (_ARM, _ARM_INT8, _ARM_MORE),
    "arm64": (_ARM, _ARM_INT8, _ARM_MORE),
}
"""By architecture, under the names that /proc/cpuinfo has: what fp32 needs, what int8 needs one of, what helps."""


def check_features(_where: Surroundings) -> Iterator[Finding]:
    """Vector extensions of this processor."""
    load_room("tnn_edge.runtime")
    from tnn_edge.runtime.machine import cpu_features

    yield judge_features(cpu_features(), platform.machine())


def judge_features(features: Collection[str], architecture: str) -> Finding:
    """What the extensions of a processor mean for speed.

    Args:
        features: as `tnn_edge.runtime.machine.cpu_features` gives them.
        architecture: as the kernel calls it.
    """
    family = _FAMILIES.get(architecture)
    if not features or family is None:
        cause = "/proc/cpuinfo tells no vector extensions that are known here; plans are built all the same"
        return note("cpu", f"{architecture}, extensions unknown", cause=cause)
    there = {name for kind in family for name, flags in kind.items() if any(flag in features for flag in flags)}
    fp32, int8, _ = family
    seen = f"{architecture} with {', '.join(sorted(there)) or 'no vector extension'}"
    if slow := [name for name in fp32 if name not in there]:
        cause = f"without {' and '.join(slow)} networks run several times slower"
        return note("cpu", seen, cause=cause, mend="choose a lower u, or a processor that has it")
    if not there & int8.keys():
        return note("cpu", seen, cause=f"without {' or '.join(int8)} an int8 bundle gains little over fp32")
    return ok("cpu", seen)


def check_cores(where: Surroundings) -> Iterator[Finding]:
    """Cores that this process may use, against those of the machine."""
    n_cores = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else n_cores
    quota = group_limits(where).cores
    seen = f"{allowed} of {n_cores} cores"
    if quota is not None and quota < allowed:
        cause = f"a control group gives {quota:g} cores' time; threads beyond that only wait"
        mend = f"--threads {max(int(quota), 1)}, or raise the limit: docker run --cpus, CPUQuota= in a systemd unit"
        yield note("cores", f"{seen}, {quota:g} by quota", cause=cause, mend=mend)
    elif allowed < n_cores:
        cause = "the process is bound to some of the cores; threads beyond those only wait"
        mend = f"--threads {allowed}, or widen it: taskset, docker run --cpuset-cpus, CPUAffinity= in a systemd unit"
        yield note("cores", seen, cause=cause, mend=mend)
    else:
        yield ok("cores", seen)
