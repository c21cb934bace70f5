"""Time a bundle against float32, static exports, chained per-block sessions and vectors without a plan, interleaved."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.bundle import OperatingPoint
from tnn_edge.bundle.structure import check_structure
from tnn_edge.errors import BundleError, VerificationError
from tnn_edge.runtime.engine import Engine
from tnn_edge.runtime.linking.shapes import give_input_shape
from tnn_edge.runtime.measuring.timing import bring_in, check_resident, conditions, no_collection, timed_ms
from tnn_edge.runtime.providers import open_session, session_options
from tnn_edge.runtime.vectors.stepwise import Stepwise

__all__ = ["Benchmark", "PointTiming", "benchmark"]

FloatArray = npt.NDArray[np.float32]
Run = Callable[[], Any]

_WARM_UP = 5
_TOLERANCE = 1e-3  # as a share of the largest golden logit


@dataclass(frozen=True)
class PointTiming:
    """One throttle setting.

    Attributes:
        against_static: median over rounds of linked time over static time of the same round, None without a file.
        against_float32: the same over the plan in float32, of an engine in int8.
        against_chained: the same over one session per block, chained.
        against_stepwise: the same over random gate vectors that leave as much on at every gate, and have no plan.
        after_switch: median of the first run after another operating point ran, over the steady median;
            None where the setting before it selects the same point.
    """

    u: float
    macs: int
    utilisation: float
    latency_p50_ms: float
    latency_p95_ms: float
    against_static: float | None = None
    against_float32: float | None = None
    against_chained: float | None = None
    against_stepwise: float | None = None
    after_switch: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """Timings on one machine."""

    machine: dict[str, object]
    points: tuple[PointTiming, ...]

    def as_json(self) -> dict[str, Any]:
        """JSON-able values."""
        return {"machine": self.machine, "points": [asdict(point) for point in self.points]}


class _Vectors:
    """Random gate vectors without a plan: at every gate as many components are on as at a point.

    Args:
        stepwise: runs them.
        point: of the bundle.
        n: vectors, one for each call.
    """

    def __init__(self, stepwise: Stepwise, point: OperatingPoint, n: int) -> None:
        generator = np.random.default_rng(0)
        self._stepwise = stepwise
        self._vectors = iter(
            [{name: "".join(generator.permutation(list(bits))) for name, bits in point.gates.items()} for _ in range(n)]
        )

    def run(self, x: FloatArray) -> FloatArray:
        return self._stepwise.run(x, next(self._vectors))


class _Chained:
    """One session per block, each with graph optimisations of its own: the way the linker replaces."""

    def __init__(self, engine: Engine, point: OperatingPoint) -> None:
        import onnx_ir as ir

        from tnn_edge.runtime.linking.linker import link_blocks

        self.sessions = []
        shape: Sequence[int] = engine.manifest.input.shape
        for _, model in link_blocks(engine.bundle, point.gates):
            block = ir.to_proto(model)
            shape = give_input_shape(block, shape)
            options = session_options(engine.settings, optimise=True)
            self.sessions.append(open_session(block.SerializeToString(), options, engine.device))

    def run(self, x: FloatArray) -> FloatArray:
        import onnxruntime

        value = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        for session in self.sessions:
            (value,) = session.run_with_ort_values(
                [session.get_outputs()[0].name], {session.get_inputs()[0].name: value}, None
            )
        return np.asarray(value.numpy())


def _static(engine: Engine, path: Path, point: OperatingPoint) -> Run:
    """A static export of one operating point, bound to fixed memory like the engine's own sessions."""
    session = open_session(path, session_options(engine.settings, optimise=True), engine.device)
    reads = [f"{value.type} {value.shape}" for value in session.get_inputs()]
    own = f"tensor(float) {list(engine.manifest.input.shape)}"
    if reads != [own] or len(session.get_outputs()) != 1:
        raise BundleError(f"{path} reads {' and '.join(reads)}, the bundle {own}, for one output: another network")
    inputs, outputs = engine.bundle.golden
    (logits,) = session.run(None, {session.get_inputs()[0].name: inputs[:1]})
    golden = outputs[engine.points.index(point)][:1]
    allowed = _TOLERANCE * float(np.abs(golden).max())
    if logits.shape != golden.shape or not float(np.abs(logits - golden).max()) <= allowed:  # also true for NaN
        raise VerificationError(f"{path} does not compute the bundle's operating point u={point.u:.4f}")
    binding = session.io_binding()
    x, y = inputs[:1].copy(), np.zeros_like(golden)
    binding.bind_input(session.get_inputs()[0].name, "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output(session.get_outputs()[0].name, "cpu", 0, np.float32, y.shape, y.ctypes.data)
    return partial(_run_bound, session, binding, (x, y))


def _run_bound(session: Any, binding: Any, _memory: tuple[FloatArray, FloatArray]) -> None:
    session.run_with_iobinding(binding)  # the memory it is bound to lives as long as this call can be made


def benchmark(
    engine: Engine,
    *,
    dial: Sequence[float] | None = None,
    static: Mapping[float, Path] | None = None,
    float32: Engine | None = None,
    chained: bool = False,
    stepwise: bool = False,
    rounds: int = 200,
) -> Benchmark:
    """Time throttle settings, all in turn in every round, so that noise hits all of them alike.

    Args:
        engine: a loaded bundle.
        dial: throttle settings; by default every operating point.
        static: u -> plain ONNX file of the sub-network there (``python -m export.static``); its u join the dial.
        float32: the same bundle in float32, to be timed too.
        chained: also time one session per block, in float32 whatever the engine's precision.
        stepwise: also time gate vectors that have no plan, on the CPU and in float32.
        rounds: passes over all settings.

    Raises:
        BundleError: blocks that are to run one by one are unsound.
        InputError: a setting's operating point is not in memory, and has no room there.
        VerificationError: a static file computes something else.
    """
    static = static or {}
    settings = sorted({*(dial if dial is not None else [p.u for p in engine.points] if not static else []), *static})
    wanted = [engine.point_at(u) for u in settings]
    for each in (engine, *([float32] if float32 else [])):
        bring_in(each, wanted)
        check_resident(each, wanted)
    x = engine.bundle.golden[0][:1].copy()
    linked: dict[float, Run] = {u: partial(engine.run_point, x, engine.point_at(u)) for u in settings}
    compared: dict[str, dict[float, Run]] = {
        "linked": linked,
        "static": {u: _static(engine, path, engine.point_at(u)) for u, path in static.items()},
        "float32": {u: partial(float32.run_point, x, float32.point_at(u)) for u in settings} if float32 else {},
        "chained": {u: partial(_Chained(engine, engine.point_at(u)).run, x) for u in settings if chained},
        "stepwise": {},
    }
    if stepwise:
        check_structure(engine.bundle)
        vectors = Stepwise(engine.bundle, engine.device, engine.settings)
        n = 2 * (_WARM_UP + rounds)
        compared["stepwise"] = {u: partial(_Vectors(vectors, engine.point_at(u), n).run, x) for u in settings}
    any_other = static or float32 or chained or stepwise
    with no_collection():
        switching = [_pairs(linked, settings) for _ in range(_WARM_UP + rounds)][_WARM_UP:]
        laps = [_lap(compared, settings) for _ in range(_WARM_UP + rounds)][_WARM_UP:] if any_other else []
    before = dict(zip(settings, settings[-1:] + settings[:-1], strict=True))
    points = [
        _point(engine.point_at(u), u, switching, laps, switched=engine.point_at(before[u]) != engine.point_at(u))
        for u in settings
    ]
    return Benchmark(conditions(engine), tuple(points))


def _pairs(linked: Mapping[float, Run], settings: Sequence[float]) -> dict[float, tuple[float, float]]:
    """Each setting twice in a row: the first run comes after another setting, the second is steady."""
    return {u: (timed_ms(linked[u]), timed_ms(linked[u])) for u in settings}


def _lap(compared: Mapping[str, Mapping[float, Run]], settings: Sequence[float]) -> dict[tuple[str, float], float]:
    """Every way of running every setting, one after the other, each with its own weights in the caches."""
    lap: dict[tuple[str, float], float] = {}
    for u in settings:
        for way, runs in compared.items():
            if u in runs:
                runs[u]()
                lap[way, u] = timed_ms(runs[u])
    return lap


def _point(
    point: OperatingPoint,
    u: float,
    switching: Sequence[Mapping[float, tuple[float, float]]],
    laps: Sequence[Mapping[tuple[str, float], float]],
    *,
    switched: bool,
) -> PointTiming:
    steady = [pair[u][1] for pair in switching]
    return PointTiming(
        u=u,
        macs=point.macs,
        utilisation=point.utilisation,
        latency_p50_ms=statistics.median(steady),
        latency_p95_ms=float(np.percentile(steady, 95)),
        against_static=_ratio(laps, u, "static"),
        against_float32=_ratio(laps, u, "float32"),
        against_chained=_ratio(laps, u, "chained"),
        against_stepwise=_ratio(laps, u, "stepwise"),
        after_switch=statistics.median(pair[u][0] for pair in switching) / statistics.median(steady)
        if switched
        else None,
    )


def _ratio(laps: Sequence[Mapping[tuple[str, float], float]], u: float, way: str) -> float | None:
    """Median over rounds of linked time over another way's time in the same round; None where it was not timed."""
    if not laps or (way, u) not in laps[0]:
        return None
    return statistics.median(lap["linked", u] / lap[way, u] for lap in laps)
