"""Prove that each operating point computes what the PyTorch network computes, and skips what it says it skips."""

from __future__ import annotations

import itertools
import math
import statistics
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.errors import InputError
from tnn_edge.runtime.engine import Engine

__all__ = ["PointCheck", "Verification", "is_falling", "same_answers", "verify"]

FloatArray = npt.NDArray[np.float32]

_NOISE_BAND = 0.05


@dataclass(frozen=True)
class PointCheck:
    """One operating point.

    Attributes:
        error: largest difference from the golden logits, as a share of the largest golden logit.
        same_top1: the arg max is the golden one wherever the golden margin exceeds twice the error allowed.
        linked_macs: MACs counted on the linked graph.
        latency_ms: median over the golden inputs, None if not timed.
    """

    u: float
    blocks_run: int
    blocks: int
    macs: int
    linked_macs: int
    error: float
    same_top1: bool
    latency_ms: float | None

    def faults(self, tolerance: float) -> list[str]:
        """What is wrong with the point, in words."""
        found = []
        if not self.error <= tolerance:  # also true for NaN
            found.append(f"u={self.u:.4f}: error {self.error:.2e} exceeds {tolerance:.2g}")
        if not self.same_top1:
            found.append(f"u={self.u:.4f}: another class than the golden output's")
        if self.macs != self.linked_macs:
            found.append(f"u={self.u:.4f}: {self.linked_macs} MACs in the linked graph, {self.macs} in the manifest")
        return found


@dataclass(frozen=True)
class Verification:
    """All operating points, and what is wrong with them."""

    points: tuple[PointCheck, ...]
    faults: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-able values; an error that is not finite, which JSON cannot say, is None."""
        points = [asdict(p) | {"error": p.error if math.isfinite(p.error) else None} for p in self.points]
        return {"points": points, "faults": list(self.faults)}


def same_answers(logits: FloatArray, golden: FloatArray, error: float) -> bool:
    """The arg max agrees wherever the golden top-2 margin exceeds twice the error that is allowed.

    Args:
        logits: shape [N, classes].
        golden: likewise.
        error: largest difference allowed, in the logits' own unit.
    """
    if golden.shape[1] < 2:
        return True
    top = np.sort(golden, axis=1)
    decided = top[:, -1] - top[:, -2] > 2 * error
    return bool((logits.argmax(axis=1) == golden.argmax(axis=1))[decided].all())


def verify(engine: Engine, *, timing: bool = False, rounds: int = 30, n_inputs: int | None = None) -> Verification:
    """Run the golden inputs at every operating point and compare.

    Args:
        engine: a loaded bundle.
        timing: also measure latency, and demand that it falls from full to half to the lowest u.
        rounds: timed passes over all points, interleaved, so that noise hits all alike.
        n_inputs: so many of the golden inputs only, of which there is at least one.

    Raises:
        InputError: the engine has a budget of memory, within which a lower point may answer for another.
    """
    if engine.has_budget:
        raise InputError("to verify takes all operating points; load the engine without max_resident_mb")
    inputs, all_outputs = engine.bundle.golden[0][:n_inputs], engine.bundle.golden[1]
    outputs = all_outputs[:, :n_inputs]
    latencies = _latencies(engine, rounds) if timing else None
    checks = []
    for i, point in enumerate(engine.points):
        logits = np.concatenate([engine.run_point(x[None], point).logits for x in inputs])
        with np.errstate(divide="ignore", invalid="ignore"):  # golden logits of 0 or infinity: an error that is a fault
            largest = float(np.abs(all_outputs[i]).max())
            error = float(np.abs(logits - outputs[i]).max() / np.float64(largest))
            is_same = same_answers(logits, outputs[i], engine.tolerance * largest)
        checks.append(
            PointCheck(
                u=point.u,
                blocks_run=len(point.blocks_on),
                blocks=len(point.gates),
                macs=point.macs,
                linked_macs=engine.plans.macs[i],
                error=error,
                same_top1=is_same,
                latency_ms=None if latencies is None else latencies[i],
            )
        )
    faults = _gate_faults(engine, len(inputs))
    faults += [fault for check in checks for fault in check.faults(engine.tolerance)]
    if latencies is not None and len(latencies) > 1 and not is_falling(latencies):
        shown = ", ".join(f"{latencies[i]:.3f}" for i in _three(latencies))
        faults.append(f"latency does not fall with u: {shown} ms at the lowest, half and full u")
    return Verification(tuple(checks), tuple(faults))


def _gate_faults(engine: Engine, n_inputs: int) -> list[str]:
    """Where the gate network scores operating points otherwise than the PyTorch controller did."""
    if engine.gate_network is None:
        return []
    inputs = engine.bundle.golden[0][:n_inputs]
    faults = []
    settings, goldens = engine.bundle.golden_scores
    for u, golden in zip(settings, goldens[:, :n_inputs], strict=True):
        scores = np.stack([engine.gate_network.scores(x[None], float(u)) for x in inputs])
        largest, tolerance = max(float(np.abs(golden).max()), 1.0), engine.manifest.tolerance
        error = float(np.abs(scores - golden).max() / largest)
        if not error <= tolerance:  # also true for NaN
            faults.append(f"gate network at u={u:.4f}: error {error:.2e} exceeds {tolerance:.2g}")
        elif not same_answers(scores, golden, tolerance * largest):
            faults.append(f"gate network at u={u:.4f}: another operating point than the golden scores'")
    return faults


def _latencies(engine: Engine, rounds: int) -> list[float]:
    inputs, _ = engine.bundle.golden
    times: list[list[float]] = [[] for _ in engine.points]
    for k in range(rounds):
        x = inputs[k % len(inputs)][None]
        for i, point in enumerate(engine.points):
            times[i].append(engine.run_point(x, point).latency_ms)
    return [statistics.median(each) for each in times]


def _three(latencies: list[float]) -> tuple[int, int, int]:
    return 0, len(latencies) // 2, len(latencies) - 1


def is_falling(latencies: list[float], noise_band: float = _NOISE_BAND) -> bool:
    """Latency at the lowest, half and full u rises with u, each step by more than the noise band or within it."""
    lowest, half, full = (latencies[i] for i in _three(latencies))
    steps = itertools.pairwise((lowest, half, full))
    return lowest < full and all(low <= high * (1 + noise_band) for low, high in steps)
