"""How much memory is left for the network."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from tnn_edge.doctor.cgroup import group_limits
from tnn_edge.doctor.finding import FaultCode, Finding, fault, note, ok
from tnn_edge.doctor.import_failures import MORE_MEMORY
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_memory"]

_MIB = 2**20
_LEAST_MIB = 180  # to install the bundle of examples/demo: 172 MiB at its peak, on x86-64; to run it, 94
_ENOUGH_MIB = 550  # a ResNeXt-50 at 224 px with 17 operating points resident: 546 MiB, on x86-64


def check_memory(where: Surroundings) -> Iterator[Finding]:
    """The least of what the machine has, what its control group leaves, and what the process's own limit leaves."""
    left = dict(_left(where))
    if not left:
        yield note("memory", "unknown", cause="/proc/meminfo does not say how much is available")
        return
    whose = min(left, key=lambda name: left[name])
    mib = left[whose] // _MIB
    seen = f"{mib} MiB left, by {whose}"
    mend = {
        "the machine": MORE_MEMORY,
        "its control group": "raise the limit: docker run --memory, MemoryMax= in a systemd unit",
        "its own limit": "ulimit -v unlimited",
    }[whose]
    if mib < _LEAST_MIB:
        cause = f"to install even a small network takes {_LEAST_MIB} MiB"
        yield fault("memory", FaultCode.MEMORY, seen, cause=cause, mend=mend)
    elif mib < _ENOUGH_MIB:
        yield note("memory", seen, cause=f"a ResNeXt-50 with 17 operating points takes {_ENOUGH_MIB} MiB", mend=mend)
    else:
        yield ok("memory", seen)


def _left(where: Surroundings) -> Iterator[tuple[str, int]]:
    """Bytes, by who limits them."""
    if match := re.search(r"^MemAvailable:\s+(\d+) kB", where.text("proc/meminfo") or "", re.MULTILINE):
        yield "the machine", 1024 * int(match[1])
    group = group_limits(where)
    if group.memory_left_bytes is not None:
        yield "its control group", max(group.memory_left_bytes, 0)
    if (own := _own_limit(where)) is not None:
        yield "its own limit", max(own, 0)


def _own_limit(where: Surroundings) -> int | None:
    """Address space that RLIMIT_AS leaves this process."""
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    pages = (where.text("proc/self/statm") or "").partition(" ")[0]
    if limit == resource.RLIM_INFINITY or not pages.isdecimal():
        return None
    return limit - int(pages) * os.sysconf("SC_PAGE_SIZE")
