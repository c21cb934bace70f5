"""What one inference at an operating point gave."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import OperatingPoint

__all__ = ["Result"]


@dataclass(frozen=True, slots=True)
class Result:
    """One inference.

    Attributes:
        logits: shape [1, classes].
        u: the throttle asked for.
        point: the operating point that ran.
        latency_ms: wall time of the run, without checking and copying the input; with that of the gate network.
        asked: the operating point that was asked for: a higher one than `point` where it is not in memory (yet).
        fallback: why this runs on the CPU though ``auto`` would have taken CUDA; None where it does not.
        gate_macs: multiply-adds of the gate network, 0 where none was asked.
    """

    logits: npt.NDArray[np.float32]
    u: float
    point: OperatingPoint
    latency_ms: float
    asked: OperatingPoint
    fallback: str | None = None
    gate_macs: int = 0

    @property
    def blocks_run(self) -> tuple[str, ...]:
        """Gated blocks with at least one component on; the others are not in the graph that ran."""
        return self.point.blocks_on

    @property
    def macs(self) -> int:
        """Multiply-adds of this inference."""
        return self.point.macs + self.gate_macs
