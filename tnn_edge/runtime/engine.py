"""The engine: operating points in memory, the throttle chosen anew for each inference."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import Bundle, Manifest, OperatingPoint
from tnn_edge.errors import BundleError, InputError, PlanError, ProviderError, TnnEdgeError
from tnn_edge.runtime.cost_profile import find_profile
from tnn_edge.runtime.gate_network import GateNetwork
from tnn_edge.runtime.installing.plans import PlanSet
from tnn_edge.runtime.lane import Lane, open_lane
from tnn_edge.runtime.limits import LimitedDial
from tnn_edge.runtime.plan_sessions import PlanSessions
from tnn_edge.runtime.providers import Device, SessionSettings
from tnn_edge.runtime.result import Result
from tnn_edge.runtime.vectors.runner import VectorResult, VectorRunner
from tnn_edge.throttle import check_throttle

__all__ = ["Engine"]

_log = logging.getLogger(__name__)

_broken: list[PlanSessions] = []
"""On a device that failed: to destroy them there can end the process."""

FloatArray = npt.NDArray[np.float32]


class Engine:
    """Runs a bundle at any throttle. A context manager; several threads may run it at once.

    Engines of one process over the same plans and settings share sessions and weights.

    Args:
        bundle: an opened bundle.
        plans: its installed plans.
        device: ``cpu`` or ``cuda``.
        settings: threads and spinning.
        max_resident_mb: memory for operating points, in MB of 2^20 bytes; None keeps all of them in memory.
        fallback: why it runs on this device and not on the one that ``auto`` would have taken.
        cpu_plans: makes or finds the plans for the CPU, on which the engine goes on where the device fails at run time;
            None where it may not.
    """

    def __init__(
        self,
        bundle: Bundle,
        plans: PlanSet,
        device: Device,
        settings: SessionSettings,
        *,
        max_resident_mb: float | None = None,
        fallback: str | None = None,
        cpu_plans: Callable[[], PlanSet] | None = None,
    ) -> None:
        self.bundle = bundle
        self.plans = plans
        self.device = device
        self.settings = settings
        self.fallback = fallback
        self._shape = self.manifest.input.shape
        self._number = {point.u: i for i, point in enumerate(self.points)}
        spec = self.manifest.gate_network
        self.gate_network = None if spec is None else GateNetwork(bundle, spec, settings)
        self._gate_macs = 0 if spec is None else spec.macs
        self._vectors = VectorRunner(bundle, plans, settings)
        self._max_resident_mb = max_resident_mb
        self._cpu_plans = cpu_plans
        self._dial: LimitedDial | None = None
        self._sessions: PlanSessions | None = PlanSessions.of(plans, device, settings, max_resident_mb)
        self._lanes = [open_lane(self._sessions, self._shape, len(self.manifest.labels))]
        self._change = threading.Lock()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the sessions; running afterwards raises RuntimeError."""
        with self._change:
            self._sessions = None
            self._lanes.clear()
        self._vectors.close()

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Operating points, u rising."""
        return self.manifest.operating_points

    @property
    def resident(self) -> tuple[OperatingPoint, ...]:
        """Operating points in memory, u rising."""
        sessions = self._sessions
        return () if sessions is None else tuple(self.points[i] for i in sessions.resident)

    @property
    def has_budget(self) -> bool:
        """A lower operating point may answer while the one that was asked for is not in memory."""
        return self._max_resident_mb is not None

    @property
    def device_mb(self) -> float | None:
        """Memory of the GPU that the operating points took, in MB of 2^20 bytes; None on the CPU."""
        sessions = self._sessions
        n_bytes = None if sessions is None else sessions.device_bytes
        return None if n_bytes is None else n_bytes / 2**20

    @property
    def tolerance(self) -> float:
        """Largest difference from a golden output, as a share of the largest golden logit, in this precision."""
        if self.plans.precision == "float32" or self.manifest.quantisation is None:
            return self.manifest.tolerance
        from tnn_edge.runtime.linking.quantise import weight_bits

        return self.manifest.quantisation.with_bits(weight_bits()).tolerance

    def point_at(self, u: float) -> OperatingPoint:
        """The operating point that throttle u selects where no gate network looks at the image.

        Raises:
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        return self.manifest.point_at(u)

    def run(
        self,
        x: FloatArray,
        u: float | None = None,
        *,
        max_ms: float | None = None,
        max_mj: float | None = None,
        min_accuracy: float | None = None,
    ) -> Result:
        """Classify one preprocessed image, at a throttle or within limits.

        Where the bundle has a gate network, image and u together choose the operating point, else u alone. Limits
        choose among the operating points of the bundle by the profile that ``tnn-edge profile`` measured.

        Args:
            x: float32, shape as the manifest's input says; finite.
            u: throttle in [0, 1]; effective at once, a change loads and builds nothing. By default 1.
            max_ms: most milliseconds, of 95 % of the runs.
            max_mj: most energy in millijoules.
            min_accuracy: least share of right answers on held-out images.

        Raises:
            InputError: x has another shape or dtype, or holds NaN or infinity; or both u and limits are given.
            LimitError: no operating point honours the limits, or nothing is known about them.
            PlanError: ONNX Runtime fails on the CPU.
            ProviderError: CUDA fails. An engine that was loaded with device ``auto`` then goes on on the CPU.
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        if max_ms is not None or max_mj is not None or min_accuracy is not None:
            if u is not None:
                raise InputError("give u, or limits that choose it, not both")
            point = self._limited().choose(max_ms=max_ms, max_mj=max_mj, min_accuracy=min_accuracy)
            return self._run(x, point.u, point)
        u = 1.0 if u is None else u
        if self.gate_network is None:
            return self._run(x, u, self.point_at(u))
        check_throttle(u)
        self._check_input(x)
        start = time.perf_counter_ns()
        point = self.points[int(self.gate_network.scores(x, u).argmax())]
        gate_ms = (time.perf_counter_ns() - start) / 1e6
        result = self._run(x, u, point)
        return replace(result, latency_ms=result.latency_ms + gate_ms, gate_macs=self._gate_macs)

    def run_point(self, x: FloatArray, point: OperatingPoint) -> Result:
        """Classify one preprocessed image at one operating point, whatever a gate network would choose.

        Raises:
            InputError: x has another shape or dtype, or holds NaN or infinity.
            PlanError: ONNX Runtime fails on the CPU.
            ProviderError: CUDA fails.
        """
        return self._run(x, point.u, point)

    def run_gates(self, x: FloatArray, gates: Mapping[str, str]) -> VectorResult:
        """Classify one preprocessed image with any gate vector, on the CPU and in float32.

        One that has no plan runs block by block; one that is asked for often is linked by a child process meanwhile.

        Args:
            x: float32, shape as the manifest's input says; finite.
            gates: gate -> bits, for every gate of the bundle.

        Raises:
            BundleError: a block is unsound, or was changed or moved since the bundle was loaded.
            InputError: x or `gates` does not fit, or the network cannot run these gates.
            PlanError: ONNX Runtime fails.
        """
        self._check_input(x)
        if self._sessions is None:
            raise _closed()
        return self._vectors.run(x, gates)

    def settle(self) -> None:
        """Wait until nothing is loaded or linked in the background; for benchmarks."""
        sessions = self._sessions
        if sessions is not None:
            sessions.settle()
        self._vectors.settle()

    def _run(self, x: FloatArray, u: float, asked: OperatingPoint) -> Result:
        self._check_input(x)
        sessions = self._sessions
        if sessions is None:
            raise _closed()
        lane = self._lane(sessions)  # before the session: no lane holds one that left before it was opened
        i, session = sessions.nearest(self._number[asked.u])
        try:
            latency_ms = lane.run(i, session, x)
            return Result(lane.logits.copy(), u, self.points[i], latency_ms, asked, self.fallback)
        except BundleError:
            raise
        except Exception as err:  # ONNX Runtime's errors share no other base
            raise self._failed(sessions, str(err).partition("\n")[0]) from err
        finally:
            self._lanes.append(lane)
            if self._sessions is None:  # closed meanwhile
                self._lanes.clear()

    def _failed(self, sessions: PlanSessions, reason: str) -> TnnEdgeError:
        """The error for a run that failed; the engine moves to the CPU where it may."""
        if sessions.device == "cpu":
            return PlanError(f"ONNX Runtime cannot run the plan: {reason}")
        failure = f"CUDA failed at run time: {reason}"
        if self._cpu_plans is None:
            return ProviderError(f"{failure}; device='cpu' (--device cpu) does without it")
        with self._change:
            if self._sessions is sessions:  # else another thread has moved, or closed, the engine
                _log.warning("%s: going on on the CPU", failure)
                _broken.append(sessions)
                self._move(self._cpu_plans(), "cpu", failure)
        return ProviderError(f"{failure}; the engine goes on on the CPU")

    def _move(self, plans: PlanSet, device: Device, reason: str) -> None:
        vectors = self._vectors
        self._sessions = PlanSessions.of(plans, device, self.settings, self._max_resident_mb)
        self._vectors = VectorRunner(self.bundle, plans, self.settings)
        self.plans, self.device, self.fallback, self._dial = plans, device, reason, None
        vectors.close()

    def _lane(self, sessions: PlanSessions) -> Lane:
        """A lane that nobody uses, which the caller puts back: as many are made as threads run at once."""
        while True:
            try:
                lane = self._lanes.pop()
            except IndexError:
                return open_lane(sessions, self._shape, len(self.manifest.labels))
            if lane.version == sessions.version:
                return lane

    def _limited(self) -> LimitedDial:
        if self._dial is None:
            self._dial = LimitedDial(self.points, find_profile(self.bundle, self.plans, self.device, self.settings))
        return self._dial

    def _check_input(self, x: FloatArray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != self._shape:
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                f"x must be float32 {list(self._shape)}, got {got}; tnn_edge.camera.preprocess makes it from an image"
            )
        if not np.isfinite(x).all():
            raise InputError("x holds NaN or infinity, of which a network makes a class like any other; drop the image")


def _closed() -> RuntimeError:
    return RuntimeError("the engine is closed")
