"""The engine: operating points in memory, the throttle chosen anew for each inference."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import Bundle, Manifest, OperatingPoint, open_bundle
from tnn_edge.errors import BundleError, InputError, PlanError, ProviderError
from tnn_edge.runtime.cost_profile import find_profile
from tnn_edge.runtime.gate_network import GateNetwork
from tnn_edge.runtime.limits import LimitedDial
from tnn_edge.runtime.plan_key import Precision
from tnn_edge.runtime.plan_sessions import PlanSessions
from tnn_edge.runtime.plans import PlanSet, find_plans, install
from tnn_edge.runtime.providers import Device, SessionSettings, choose_device
from tnn_edge.runtime.vector_runner import VectorResult, VectorRunner
from tnn_edge.throttle import check_throttle

__all__ = ["Engine", "Result", "load"]

_log = logging.getLogger(__name__)

FloatArray = npt.NDArray[np.float32]


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

    logits: FloatArray
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


class _Lane:
    """Memory that one run at a time uses, and every resident session bound to it, so that a call allocates nothing."""

    def __init__(self, sessions: PlanSessions, x_shape: tuple[int, ...], n_classes: int) -> None:
        self.version = sessions.version
        self.x: FloatArray = np.zeros(x_shape, dtype=np.float32)
        self.logits: FloatArray = np.zeros((1, n_classes), dtype=np.float32)
        self._bound: dict[int, tuple[Any, Any]] = {}
        for i in sessions.resident:
            self.bound(*sessions.nearest(i))

    def bound(self, i: int, session: Any) -> tuple[Any, Any]:
        """A session and its binding to this lane's memory."""
        found = self._bound.get(i)
        if found is None:
            binding = session.io_binding()
            (taken,), (given,) = session.get_inputs(), session.get_outputs()
            if (taken.shape, given.shape) != (list(self.x.shape), list(self.logits.shape)):
                raise BundleError(
                    f"the blocks read {taken.shape} and give {given.shape}, "
                    f"the manifest's input and labels say {list(self.x.shape)} and {list(self.logits.shape)}"
                )
            binding.bind_input(taken.name, "cpu", 0, np.float32, self.x.shape, self.x.ctypes.data)
            binding.bind_output(given.name, "cpu", 0, np.float32, self.logits.shape, self.logits.ctypes.data)
            found = self._bound[i] = (session, binding)
        return found


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
        self._dial: LimitedDial | None = None
        self._sessions: PlanSessions | None = PlanSessions.of(plans, device, settings, max_resident_mb)
        self._lanes = [_Lane(self._sessions, self._shape, len(self.manifest.labels))]
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
        return () if self._sessions is None else tuple(self.points[i] for i in self._sessions.resident)

    @property
    def tolerance(self) -> float:
        """Largest difference from a golden output, as a share of the largest golden logit, in this precision."""
        if self.plans.precision == "float32" or self.manifest.quantisation is None:
            return self.manifest.tolerance
        from tnn_edge.runtime.quantise import weight_bits

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
            PlanError: ONNX Runtime fails.
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
            PlanError: ONNX Runtime fails.
        """
        return self._run(x, point.u, point)

    def run_gates(self, x: FloatArray, gates: Mapping[str, str]) -> VectorResult:
        """Classify one preprocessed image with any gate vector, on the CPU and in float32.

        One that has no plan runs block by block; one that is asked for often is linked by a child process meanwhile.

        Args:
            x: float32, shape as the manifest's input says; finite.
            gates: gate -> bits, for every gate of the bundle.

        Raises:
            InputError: x or `gates` does not fit.
            PlanError: ONNX Runtime fails.
        """
        self._check_input(x)
        if self._sessions is None:
            raise _closed()
        return self._vectors.run(x, gates)

    def settle(self) -> None:
        """Wait until nothing is loaded or linked in the background; for benchmarks."""
        if self._sessions is not None:
            self._sessions.settle()
        self._vectors.settle()

    def _run(self, x: FloatArray, u: float, asked: OperatingPoint) -> Result:
        self._check_input(x)
        sessions = self._sessions
        if sessions is None:
            raise _closed()
        i, session = sessions.nearest(self._number[asked.u])
        lane = self._lane(sessions)
        try:
            session, binding = lane.bound(i, session)
            np.copyto(lane.x, x)
            start = time.perf_counter_ns()
            try:
                session.run_with_iobinding(binding)
            except Exception as err:  # ONNX Runtime's errors share no other base
                raise PlanError(f"ONNX Runtime cannot run the plan: {str(err).partition(chr(10))[0]}") from err
            latency_ms = (time.perf_counter_ns() - start) / 1e6
            return Result(lane.logits.copy(), u, self.points[i], latency_ms, asked, self.fallback)
        finally:
            self._lanes.append(lane)

    def _lane(self, sessions: PlanSessions) -> _Lane:
        """A lane that nobody uses, which the caller puts back: as many are made as threads run at once."""
        while True:
            try:
                lane = self._lanes.pop()
            except IndexError:
                return _Lane(sessions, self._shape, len(self.manifest.labels))
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


def load(
    bundle: Path | str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    settings: SessionSettings | None = None,
    cache: Path | None = None,
    precision: Precision = "float32",
    max_resident_mb: float | None = None,
) -> Engine:
    """Open a bundle and load its operating points, installing it first where that has not been done.

    Args:
        bundle: the bundle's folder.
        device: ``auto`` takes CUDA where it works; where it does not, log, results and metrics say so. The others are
            strict.
        settings: threads and spinning; by default one thread that does not spin.
        cache: folder of the plans; by default ``$TNN_EDGE_CACHE`` or the user's cache folder.
        precision: ``int8`` runs 8-bit integers, where the bundle has ranges for them.
        max_resident_mb: memory for operating points, in MB of 2^20 bytes. By default all are loaded; with a limit the
            lowest is, and the others in the background when they are asked for. Meanwhile the nearest lower one runs.

    Raises:
        BundleError: the bundle is damaged or unsound, or has no ranges for 8-bit integers.
        ProviderError: the device cannot be had.
        PlanError: plans cannot be made, written or loaded.
        VerificationError: a plan computes something else than the golden outputs.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if max_resident_mb is not None and not max_resident_mb > 0:
        raise ValueError(f"max_resident_mb must be more than 0 or None, got {max_resident_mb!r}")
    opened = open_bundle(bundle)
    chosen = choose_device(device)
    settings = settings or SessionSettings()

    def on(chosen: Device, fallback: str | None) -> Engine:
        plans = find_plans(opened, chosen, cache, precision=precision) or install(
            opened, chosen, cache, precision=precision
        )
        return Engine(opened, plans, chosen, settings, max_resident_mb=max_resident_mb, fallback=fallback)

    try:
        return on(chosen, None)
    except (ProviderError, PlanError) as err:
        if device != "auto" or chosen == "cpu":
            raise
        _log.warning("%s: running on the CPU instead", err)
        return on("cpu", str(err))
