"""The engine: every operating point resident, the throttle chosen anew for each inference."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import Bundle, Manifest, OperatingPoint, open_bundle
from tnn_edge.errors import BundleError, InputError, PlanError, ProviderError
from tnn_edge.runtime.gate_network import GateNetwork
from tnn_edge.runtime.plans import PlanSet, find_plans, install
from tnn_edge.runtime.providers import Device, SessionSettings, choose_device, open_session, session_options
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
        gate_macs: multiply-adds of the gate network, 0 where none was asked.
    """

    logits: FloatArray
    u: float
    point: OperatingPoint
    latency_ms: float
    gate_macs: int = 0

    @property
    def blocks_run(self) -> tuple[str, ...]:
        """Gated blocks with at least one component on; the others are not in the graph that ran."""
        return self.point.blocks_on

    @property
    def macs(self) -> int:
        """Multiply-adds of this inference."""
        return self.point.macs + self.gate_macs


class _Resident:
    """A session with its input and output bound to fixed memory, so that a call allocates nothing."""

    def __init__(self, session: Any, x: FloatArray, logits: FloatArray) -> None:
        self.session = session
        self.binding = session.io_binding()
        (taken,), (given,) = session.get_inputs(), session.get_outputs()
        if (taken.shape, given.shape) != (list(x.shape), list(logits.shape)):
            raise BundleError(
                f"the blocks read {taken.shape} and give {given.shape}, "
                f"the manifest's input and labels say {list(x.shape)} and {list(logits.shape)}"
            )
        self.binding.bind_input(taken.name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
        self.binding.bind_output(given.name, "cpu", 0, np.float32, logits.shape, logits.ctypes.data)

    def run(self) -> None:
        try:
            self.session.run_with_iobinding(self.binding)
        except Exception as err:  # ONNX Runtime's errors share no other base
            raise PlanError(f"ONNX Runtime cannot run the plan: {str(err).partition(chr(10))[0]}") from err


class Engine:
    """Runs a bundle at any throttle. A context manager; safe to call from several threads, one at a time inside.

    Args:
        bundle: an opened bundle.
        plans: its installed plans.
        device: ``cpu`` or ``cuda``.
        settings: threads and spinning.
    """

    def __init__(self, bundle: Bundle, plans: PlanSet, device: Device, settings: SessionSettings) -> None:
        self.bundle = bundle
        self.plans = plans
        self.device = device
        self.settings = settings
        self._lock = threading.Lock()
        self._shape = self.manifest.input.shape
        self._input: FloatArray = np.zeros(self._shape, dtype=np.float32)
        self._logits: FloatArray = np.zeros((1, len(self.manifest.labels)), dtype=np.float32)
        spec = self.manifest.gate_network
        self.gate_network = None if spec is None else GateNetwork(bundle, spec, settings)
        self._gate_macs = 0 if spec is None else spec.macs
        options = session_options(settings, optimise=device != "cpu")
        self._resident: dict[float, _Resident] = {
            point.u: _Resident(open_session(path, options, device), self._input, self._logits)
            for point, path in zip(self.points, plans.paths, strict=True)
        }

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the sessions; running afterwards raises RuntimeError."""
        with self._lock:
            self._resident.clear()

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""
        return self.bundle.manifest

    @property
    def points(self) -> tuple[OperatingPoint, ...]:
        """Operating points, u rising."""
        return self.manifest.operating_points

    def point_at(self, u: float) -> OperatingPoint:
        """The operating point that throttle u selects where no gate network looks at the image.

        Raises:
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
        return self.manifest.point_at(u)

    def run(self, x: FloatArray, u: float = 1.0) -> Result:
        """Classify one preprocessed image.

        Where the bundle has a gate network, image and u together choose the operating point, else u alone.

        Args:
            x: float32, shape as the manifest's input says.
            u: throttle in [0, 1]; effective at once, a change loads and builds nothing.

        Raises:
            InputError: x has another shape or dtype.
            PlanError: ONNX Runtime fails.
            ThrottleRangeError: u lies outside [0, 1] or is NaN.
        """
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
            InputError: x has another shape or dtype.
            PlanError: ONNX Runtime fails.
        """
        return self._run(x, point.u, point)

    def _run(self, x: FloatArray, u: float, point: OperatingPoint) -> Result:
        self._check_input(x)
        with self._lock:
            resident = self._resident.get(point.u)
            if resident is None:
                raise RuntimeError("the engine is closed")
            np.copyto(self._input, x)
            start = time.perf_counter_ns()
            resident.run()
            latency_ms = (time.perf_counter_ns() - start) / 1e6
            return Result(self._logits.copy(), u, point, latency_ms)

    def _check_input(self, x: FloatArray) -> None:
        if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != self._shape:
            got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
            raise InputError(
                f"x must be float32 {list(self._shape)}, got {got}; tnn_edge.camera.preprocess makes it from an image"
            )


def load(
    bundle: Path | str,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    *,
    settings: SessionSettings | None = None,
    cache: Path | None = None,
) -> Engine:
    """Open a bundle and load all its operating points, installing it first where that has not been done.

    Args:
        bundle: the bundle's folder.
        device: ``auto`` takes CUDA where it works and logs a warning where it does not; the others are strict.
        settings: threads and spinning; by default one thread that does not spin.
        cache: folder of the plans; by default ``$TNN_EDGE_CACHE`` or the user's cache folder.

    Raises:
        BundleError: the bundle is damaged or unsound.
        ProviderError: the device cannot be had.
        MissingExtraError: ONNX Runtime is not installed.
    """
    opened = open_bundle(bundle)
    chosen = choose_device(device)
    try:
        return _load_on(opened, chosen, settings, cache)
    except (ProviderError, PlanError) as err:
        if device != "auto" or chosen == "cpu":
            raise
        _log.warning("%s: running on the CPU instead", err)
        return _load_on(opened, "cpu", settings, cache)


def _load_on(bundle: Bundle, device: Device, settings: SessionSettings | None, cache: Path | None) -> Engine:
    plans = find_plans(bundle, device, cache) or install(bundle, device, cache)
    return Engine(bundle, plans, device, settings or SessionSettings())
