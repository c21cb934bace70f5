"""Loading a bundle that may be hostile, and what a child process tries with one."""

from __future__ import annotations

from pathlib import Path

import tnn_edge
from tnn_edge.errors import VerificationError
from tnn_edge.runtime.confined import Limits, confined
from tnn_edge.runtime.verify import verify

__all__ = ["load_and_try", "try_in_child", "try_out"]


def load_and_try(bundle: str, cache: str, is_probed: bool) -> None:
    """Load a bundle; one that only a run shows to be bad is run in a child."""
    if is_probed:
        try_in_child(bundle, cache)
    else:
        tnn_edge.load(bundle, device="cpu", cache=Path(cache)).close()


def try_in_child(
    bundle: str, cache: str, *, address_space_mb: int = 600, cpu_seconds: int = 10, counts: bool = True
) -> None:
    """`try_out` under limits."""
    limits = Limits(address_space_bytes=address_space_mb * 2**20, cpu_seconds=cpu_seconds, wall_seconds=30)
    arguments = {"bundle": bundle, "cache": cache, "counts": counts}
    confined(f"{__name__}:try_out", arguments, limits, what=f"the probe of {bundle}")


def try_out(bundle: str, cache: str, counts: bool) -> None:
    """Load and verify a bundle.

    Args:
        bundle: its folder.
        cache: for its plans.
        counts: compare the multiply-adds before anything runs.

    Raises:
        VerificationError: what it computes, or its cost, differs from what it says.
    """
    with tnn_edge.load(bundle, device="cpu", cache=Path(cache)) as engine:
        declared = tuple(point.macs for point in engine.points)
        if counts and engine.plans.macs != declared:
            raise VerificationError(f"{engine.plans.macs} MACs in the linked graphs, {declared} in the manifest")
        faults = verify(engine).faults
    if faults:
        raise VerificationError("; ".join(faults))
