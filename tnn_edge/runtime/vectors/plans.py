"""Plans for the gate vectors that are asked for often.

Linking and optimising a vector takes a second, and ONNX Runtime holds the interpreter's lock meanwhile, which would
stop a camera. So a child process does it, at the lowest priority, one vector at a time; when it is done, the plan is
opened between two inferences, in about ten milliseconds. Plans are kept on disk (`VectorStore`) and found again after a
restart, where the first inference that asks for one has the child check it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from tnn_edge.bundle import Bundle
from tnn_edge.errors import PlanError, TnnEdgeError
from tnn_edge.runtime.installing.build_limits import limits_of
from tnn_edge.runtime.installing.confined import Confined, Limits
from tnn_edge.runtime.installing.plans import PlanSet
from tnn_edge.runtime.mapped_weights import MappedWeights
from tnn_edge.runtime.providers import SessionSettings, open_session
from tnn_edge.runtime.vectors.recent import Recent
from tnn_edge.runtime.vectors.store import VectorPlan, VectorStore
from tnn_edge.runtime.vectors.weight_layout import FloatArray

__all__ = ["VectorPlans"]

_log = logging.getLogger(__name__)

Vector = tuple[tuple[str, str], ...]

_MAX_COUNTED = 4096  # vectors: of those that are asked for once and never again there is no end
_LOWEST_PRIORITY = 19
_PATIENCE = 2  # times the wall time of an install: at the lowest priority a child mostly waits for the CPU
_WAY_OUT = "load the bundle again to try once more"


class _Job(NamedTuple):
    vector: Vector
    child: Confined


class _Resident(NamedTuple):
    session: Any
    binding: Any
    weights: MappedWeights  # which the session reads


class VectorPlans:
    """Runs gate vectors that have a plan, and has plans made for hot ones. A context manager.

    Safe to call from several threads, one at a time inside, and from several processes over one store.

    Args:
        bundle: an opened bundle whose blocks were checked.
        plans: the installed plans of its operating points for the CPU; the store lies beside them.
        settings: threads and spinning.
        hot_after: a vector asked for so often gets a plan.
        max_store_mb: of the plans on disk, and of those in memory.
        clock_s: seconds since 1970, for the time of last use.
    """

    def __init__(
        self,
        bundle: Bundle,
        plans: PlanSet,
        settings: SessionSettings | None = None,
        *,
        hot_after: int = 8,
        max_store_mb: float = 512,
        clock_s: Callable[[], float] = time.time,
    ) -> None:
        if hot_after < 1:
            raise ValueError(f"hot_after must be at least 1, got {hot_after}")
        self.bundle = bundle
        self.hot_after = hot_after
        max_bytes = int(max_store_mb * 2**20)
        self.store = VectorStore(plans.folder.with_name(f"{plans.folder.name}.vectors"), max_bytes)
        self._settings = settings or SessionSettings()
        self._clock_s = clock_s
        self._lock = threading.Lock()
        self._x: FloatArray = np.zeros(bundle.manifest.input.shape, dtype=np.float32)
        self._logits: FloatArray = np.zeros((1, len(bundle.manifest.labels)), dtype=np.float32)
        self._asked: OrderedDict[Vector, int] = OrderedDict()
        self._waiting: OrderedDict[Vector, None] = OrderedDict()
        self._refused: set[Vector] = set()
        self._resident: Recent[Vector, _Resident] = Recent(max_bytes)
        self._used_s: dict[Vector, float] = {}
        self._job: _Job | None = None
        self._is_closed = False

    def __enter__(self) -> VectorPlans:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the child, release the plans, and note on disk when each was last used."""
        with self._lock:
            self._is_closed = True
            if self._job is not None:
                self._job.child.cancel()
                self._job = None
            self._note_use()
            self._waiting.clear()
            self._resident.clear()

    @property
    def n_resident(self) -> int:
        """Plans that run at once."""
        return len(self._resident)

    @property
    def is_building(self) -> bool:
        """A child is at work, or a vector waits for one."""
        return self._job is not None or bool(self._waiting)

    def run(self, x: FloatArray, gates: Mapping[str, str]) -> FloatArray | None:
        """Classify one preprocessed image if the gate vector has a plan in memory; None where it has not.

        Either way the asking counts, and a plan that the child has finished is opened.

        Args:
            x: float32, of the manifest's shape; checked by the caller.
            gates: gate -> bits, checked by the caller (`check_gates`).

        Returns:
            Logits, shape [1, classes].

        Raises:
            PlanError: ONNX Runtime fails.
        """
        vector = tuple(sorted(gates.items()))
        with self._lock:
            if self._is_closed:
                raise RuntimeError("the plans of gate vectors are closed")
            self._advance()
            resident = self._resident.get(vector)
            if resident is None:
                self._ask(vector)
                return None
            self._used_s[vector] = self._clock_s()
            np.copyto(self._x, x)
            try:
                resident.session.run_with_iobinding(resident.binding)
            except Exception as err:  # ONNX Runtime's errors share no other base
                raise PlanError(f"ONNX Runtime cannot run the plan: {str(err).partition(chr(10))[0]}") from err
            return self._logits.copy()

    def settle(self) -> None:
        """Wait until no child is at work and none waits, and open what they made; for tests and before a benchmark."""
        while True:
            with self._lock:
                if self._is_closed or not self.is_building:
                    return
                self._advance(wait=True)

    def _ask(self, vector: Vector) -> None:
        if vector in self._refused or vector in self._waiting or (self._job is not None and self._job.vector == vector):
            return
        times = self._asked.pop(vector, 0) + 1
        if times >= self.hot_after or (times == 1 and self.store.is_there(dict(vector))):
            self._waiting[vector] = None
            self._advance()
            return
        self._asked[vector] = times
        if len(self._asked) > _MAX_COUNTED:
            self._asked.popitem(last=False)

    def _advance(self, *, wait: bool = False) -> None:
        """Open the plan that the child has finished, and start the next child."""
        if self._job is not None and (wait or self._job.child.poll()):
            job, self._job = self._job, None
            self._open(job)
        if self._job is None and self._waiting:
            vector, _ = self._waiting.popitem(last=False)
            self._note_use()  # the child makes room by time of use
            try:
                self._job = _Job(vector, self._started(vector))
            except TnnEdgeError as err:
                self._refuse(vector, err)

    def _started(self, vector: Vector) -> Confined:
        arguments = {
            "bundle": str(self.bundle.path.absolute()),
            "digest": self.bundle.digest,
            "gates": dict(vector),
            "folder": str(self.store.folder.absolute()),
            "max_bytes": self.store.max_bytes,
        }
        return Confined(
            "tnn_edge.runtime.vectors.store:store_vector",
            arguments,
            _limits(self.bundle),
            what="linking a gate vector",
            way_out=_WAY_OUT,
            error=PlanError,
            niceness=_LOWEST_PRIORITY,
        )

    def _open(self, job: _Job) -> None:
        try:
            job.child.result()
            plan = self.store.described(dict(job.vector))
            if plan is None:
                raise PlanError(f"the plan of a gate vector left {self.store.folder}; {_WAY_OUT}")
            resident = self._loaded(plan)
        except TnnEdgeError as err:
            self._refuse(job.vector, err)
            return
        self._resident.put(job.vector, resident, plan.n_bytes)
        self._used_s[job.vector] = self._clock_s()

    def _loaded(self, plan: VectorPlan) -> _Resident:
        try:
            weights = MappedWeights.of(plan.weights)
        except OSError as err:  # another process makes room
            raise PlanError(f"cannot read {plan.weights}: {err.strerror}; {_WAY_OUT}") from err
        options = weights.options(self._settings, plan.tensors)
        session = open_session(plan.path, options, "cpu")
        binding = session.io_binding()
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        binding.bind_input(taken.name, "cpu", 0, np.float32, self._x.shape, self._x.ctypes.data)
        binding.bind_output(given.name, "cpu", 0, np.float32, self._logits.shape, self._logits.ctypes.data)
        return _Resident(session, binding, weights)

    def _refuse(self, vector: Vector, err: TnnEdgeError) -> None:
        """Leave a vector to run block by block until this process ends."""
        self._refused.add(vector)
        _log.warning("a gate vector gets no plan and runs block by block: %s", err)

    def _note_use(self) -> None:
        for vector, used_s in self._used_s.items():
            self.store.touch(dict(vector), used_s)
        self._used_s.clear()


def _limits(bundle: Bundle) -> Limits:
    """Those of an install, which links every operating point and so never less, with more time to wait."""
    limits = limits_of(bundle, "cpu")
    return replace(limits, wall_seconds=_PATIENCE * limits.wall_seconds)
