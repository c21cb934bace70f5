"""Any gate vector, on the CPU: by a plan where it has one, else block by block."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tnn_edge.bundle import Bundle
from tnn_edge.bundle.manifest import utilisation
from tnn_edge.runtime.installing.plans import PlanSet
from tnn_edge.runtime.providers import SessionSettings

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from tnn_edge.runtime.vectors.plans import VectorPlans
    from tnn_edge.runtime.vectors.stepwise import Stepwise

__all__ = ["VectorResult", "VectorRunner"]


@dataclass(frozen=True, slots=True)
class VectorResult:
    """One inference of a gate vector.

    Attributes:
        logits: shape [1, classes].
        gates: gate -> bits, the vector that ran.
        utilisation: its cost-weighted share of active components.
        latency_ms: wall time.
        is_stepwise: it ran block by block; a vector that is asked for often soon has a plan, and does not.
    """

    logits: npt.NDArray[np.float32]
    gates: Mapping[str, str]
    utilisation: float
    latency_ms: float
    is_stepwise: bool


class VectorRunner:
    """Runs gate vectors. Safe to call from several threads. Nothing is loaded before the first call.

    Args:
        bundle: an opened bundle, whose blocks are checked at the first call.
        plans: its installed plans; those of hot vectors lie beside them.
        settings: threads and spinning.
    """

    def __init__(self, bundle: Bundle, plans: PlanSet, settings: SessionSettings) -> None:
        self._bundle, self._plans, self._settings = bundle, plans, settings
        self._weights = {gate.name: gate.weights for gate in bundle.manifest.gates}
        self._lock = threading.Lock()
        self._ways: tuple[VectorPlans, Stepwise] | None = None

    def run(self, x: npt.NDArray[np.float32], gates: Mapping[str, str]) -> VectorResult:
        """Classify one preprocessed image.

        Args:
            x: float32, of the manifest's shape; checked by the caller.
            gates: gate -> bits, for every gate.

        Raises:
            BundleError: a block is unsound, or was changed or moved since the bundle was loaded.
            InputError: `gates` fits no gate vector of this network, or the network cannot run it.
            PlanError: ONNX Runtime fails.
        """
        from tnn_edge.runtime.vectors.stepwise import check_gates

        check_gates(self._bundle.manifest, gates)
        plans, stepwise = self._opened()
        start = time.perf_counter_ns()
        logits = plans.run(x, gates)
        is_stepwise = logits is None
        if logits is None:
            logits = stepwise.run(x, gates)
        latency_ms = (time.perf_counter_ns() - start) / 1e6
        return VectorResult(logits, dict(gates), utilisation(gates, self._weights), latency_ms, is_stepwise)

    def settle(self) -> None:
        """Wait until every vector that is due for a plan has one; for benchmarks."""
        if self._ways is not None:
            self._ways[0].settle()

    def close(self) -> None:
        """End the child that links, and release everything."""
        with self._lock:
            for way in self._ways or ():
                way.close()

    def _opened(self) -> tuple[VectorPlans, Stepwise]:
        from tnn_edge.bundle.structure import check_structure
        from tnn_edge.runtime.vectors.plans import VectorPlans
        from tnn_edge.runtime.vectors.stepwise import Stepwise

        with self._lock:
            if self._ways is None:
                check_structure(self._bundle)
                plans = VectorPlans(self._bundle, self._plans, self._settings)
                self._ways = plans, Stepwise(self._bundle, "cpu", self._settings)
            return self._ways
