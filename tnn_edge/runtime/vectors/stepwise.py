"""Run any gate vector, one block after the other, without building anything for the vector.

A plan is linked for one gate vector and is the fastest way to run it. There are 2^n vectors, so those that have no plan
run here: each block in a session for its structure (`BlockSession`), with the weights of the components that are on
gathered from the full-width block (`FoldedBlock`) and bound to its inputs. Gathered weights and folded blocks are kept
while they fit the memory that is set aside for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from tnn_edge.bundle import BlockSpec, Bundle, Manifest
from tnn_edge.errors import BundleError, InputError, PlanError, ProviderError
from tnn_edge.runtime.linking.linker import block_statistics
from tnn_edge.runtime.providers import Device, SessionSettings
from tnn_edge.runtime.vectors.block_session import BlockSession, Border
from tnn_edge.runtime.vectors.folded_block import FoldedBlock, gates_read_by
from tnn_edge.runtime.vectors.recent import Recent
from tnn_edge.runtime.vectors.skeleton import CanonicalBlock
from tnn_edge.runtime.vectors.weight_layout import FloatArray, aligned, fitted

__all__ = ["BlockTime", "Stepwise", "Trace", "check_gates"]


@dataclass(frozen=True)
class BlockTime:
    """A block that ran, and the wall time it took."""

    block: str
    ms: float


@dataclass(frozen=True)
class Trace:
    """One inference, block by block.

    Attributes:
        logits: shape [1, classes].
        blocks: in the order in which they ran; a block of which nothing is left is not among them.
        gather_ms: wall time of finding or gathering weights, and of opening sessions for structures met the first time.
    """

    logits: FloatArray
    blocks: tuple[BlockTime, ...]
    gather_ms: float


@dataclass(frozen=True)
class _Step:
    """A block as a gate vector leaves it: its session and its weights, bound."""

    block: str
    canonical: CanonicalBlock
    session: BlockSession
    binding: Any
    weights: tuple[FloatArray, ...]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.weights)


class _Nothing:
    """What is left of a block that passes its input on."""


class Stepwise:
    """Runs a bundle at any gate vector. Safe to call from several threads, one at a time inside.

    The first vector of a structure opens sessions, some ten milliseconds each; later ones gather weights alone, and one
    that was there before runs at once.

    Args:
        bundle: an opened bundle whose blocks were checked (`check_structure`).
        device: must be ``cpu``.
        settings: threads and spinning.
        memory_mb: for gathered weights, and as much again for full-width blocks, of which those of one operating
            point's statistics are kept even if they take more.

    Raises:
        ProviderError: another device.
    """

    def __init__(
        self, bundle: Bundle, device: Device = "cpu", settings: SessionSettings | None = None, *, memory_mb: int = 256
    ) -> None:
        if device != "cpu":
            raise ProviderError(
                f"gate vectors without a plan run on the CPU, got device {device}; load the bundle with device='cpu', "
                "or run its operating points"
            )
        self.bundle = bundle
        self.settings = settings or SessionSettings()
        self._lock = threading.Lock()
        self._read_gates = {block.name: gates_read_by(block) for block in bundle.manifest.blocks}
        self._sessions: dict[tuple[CanonicalBlock, Border, bool], BlockSession] = {}
        self._steps: Recent[tuple[Any, ...], _Step | _Nothing] = Recent(memory_mb * 2**20)
        full_bytes = 2 * sum(file.bytes for file in bundle.manifest.files.values())  # as stored, and laid out
        self._folded: Recent[tuple[str, int | None], FoldedBlock] = Recent(max(memory_mb * 2**20, full_bytes))
        self._values = [aligned((0,)), aligned((0,))]

    @property
    def n_sessions(self) -> int:
        """Structures met so far."""
        return len(self._sessions)

    @property
    def gathered_bytes(self) -> int:
        """Weights of gate vectors in memory."""
        return self._steps.n_bytes

    def close(self) -> None:
        """Release sessions and weights; running opens what it needs anew."""
        with self._lock:
            self._sessions.clear()
            self._steps.clear()
            self._folded.clear()

    def run(self, x: FloatArray, gates: Mapping[str, str]) -> FloatArray:
        """Classify one preprocessed image.

        Args:
            x: float32, shape as the manifest's input says.
            gates: gate -> bits, for every gate of the bundle.

        Returns:
            Logits, shape [1, classes].

        Raises:
            InputError: x has another shape or dtype, the gates are not the bundle's, or the network cannot run them.
            PlanError: ONNX Runtime fails.
            BundleError: a block's shapes are not known, it is too large or too much work, or its file is no longer what
                was opened.
        """
        return self.trace(x, gates).logits

    def trace(self, x: FloatArray, gates: Mapping[str, str]) -> Trace:
        """Like `run`, with what ran and how long it took."""
        manifest = self.bundle.manifest
        check_gates(manifest, gates)
        _check_input(manifest, x)
        with self._lock:
            start = time.perf_counter_ns()
            steps = self._chain(gates)
            for i, values in enumerate(self._values):
                largest = max(int(np.prod(step.session.gives.shape)) for step in steps[i::2] or steps)
                if values.size < largest:
                    self._values[i] = aligned((largest,))
            ready = time.perf_counter_ns()
            logits, times = self._run(np.ascontiguousarray(x), steps)
        return Trace(logits, times, (ready - start) / 1e6)

    def _run(self, x: FloatArray, steps: list[_Step]) -> tuple[FloatArray, tuple[BlockTime, ...]]:
        address, shape = x.ctypes.data, x.shape
        times = []
        for i, step in enumerate(steps):
            start = time.perf_counter_ns()
            values = self._values[i % 2]
            given = step.session.gives.shape
            step.binding.bind_input(step.session.x, "cpu", 0, np.float32, shape, address)
            step.binding.bind_output(step.session.y, "cpu", 0, np.float32, given, values.ctypes.data)
            try:
                step.session.session.run_with_iobinding(step.binding)
            except Exception as err:  # ONNX Runtime's errors share no other base
                reason = str(err).partition(chr(10))[0]
                raise PlanError(f"ONNX Runtime cannot run block {step.block}: {reason}") from err
            address, shape = values.ctypes.data, given
            times.append(BlockTime(step.block, (time.perf_counter_ns() - start) / 1e6))
        logits = self._values[(len(steps) - 1) % 2][: int(np.prod(shape))].reshape(shape).copy()
        return logits, tuple(times)

    def _chain(self, gates: Mapping[str, str]) -> list[_Step]:
        """The blocks that a gate vector leaves."""
        manifest = self.bundle.manifest
        row = manifest.statistics_for(gates)
        reads = Border(manifest.input.shape, is_blocked=False)
        is_non_negative = False
        steps = []
        for block in manifest.blocks:
            step = self._step(block, row, gates, reads)
            if isinstance(step, _Nothing) or (is_non_negative and step.canonical.is_relu):
                continue
            steps.append(step)
            reads = step.session.gives
            is_non_negative = step.canonical.keeps_non_negative(given=is_non_negative)
        return steps

    def _step(self, block: BlockSpec, row: int | None, gates: Mapping[str, str], reads: Border) -> _Step | _Nothing:
        key = (block.name, row, reads, *(gates[name] for name in self._read_gates[block.name]))
        found = self._steps.get(key)
        if found is None:
            found = self._gathered(block, self._folded_block(block, row), gates, reads)
            self._steps.put(key, found, found.nbytes if isinstance(found, _Step) else 0)
        return found

    def _folded_block(self, block: BlockSpec, row: int | None) -> FoldedBlock:
        found = self._folded.get((block.name, row))
        if found is None:
            statistics = block_statistics(self.bundle, block, row)
            try:
                found = FoldedBlock(self.bundle, block, statistics)
            except Exception as err:  # what graph code raises on a file that has changed shares no other base
                reason = str(err).partition("\n")[0] or type(err).__name__
                raise BundleError(
                    f"{self.bundle.path / block.file} cannot be read any more ({reason}); load the bundle again"
                ) from err
            self._folded.put((block.name, row), found, 2 * found.nbytes)
        return found

    def _gathered(
        self, block: BlockSpec, folded: FoldedBlock, gates: Mapping[str, str], reads: Border
    ) -> _Step | _Nothing:
        try:
            left, names = folded.variant(gates)
        except ValueError as err:
            raise InputError(f"the network cannot run these gates: {err}") from err
        if left is None:
            return _Nothing()
        session = self._session(block, left, reads)
        binding, weights = session.session.io_binding(), []
        for each in session.weights:
            array = fitted(folded.gathered(names[each.weight], gates, each.layout), each.shape)
            binding.bind_input(each.name, "cpu", 0, np.float32, each.shape, array.ctypes.data)
            weights.append(array)
        return _Step(block.name, left, session, binding, tuple(weights))

    def _session(self, block: BlockSpec, canonical: CanonicalBlock, reads: Border) -> BlockSession:
        is_last = block is self.bundle.manifest.blocks[-1]
        key = canonical, reads, is_last
        if key not in self._sessions:
            try:
                self._sessions[key] = BlockSession(canonical, reads, self.settings, is_last=is_last)
            except onnx.shape_inference.InferenceError as err:
                reason = " ".join(str(err).split())
                raise InputError(f"the network cannot run these gates: {block.name}: {reason}") from err
        return self._sessions[key]


def check_gates(manifest: Manifest, gates: Mapping[str, str]) -> None:
    """Check that a gate vector is one of the bundle's.

    Raises:
        InputError: a gate is missing or unknown, or its bits are not as many 0s and 1s as it has components.
    """
    sizes = {gate.name: len(gate.weights) for gate in manifest.gates}
    for kind, names in (("missing", set(sizes) - set(gates)), ("unknown", set(gates) - set(sizes))):
        if names:
            raise InputError(f"gates must name every gate of the bundle, {kind}: {', '.join(sorted(map(str, names)))}")
    for name, size in sizes.items():
        bits = gates[name]
        if not isinstance(bits, str) or len(bits) != size or set(bits) - {"0", "1"}:
            raise InputError(f"gate {name} must be {size} characters 0 or 1, one for each component, got {bits!r}")


def _check_input(manifest: Manifest, x: FloatArray) -> None:
    shape = manifest.input.shape
    if not isinstance(x, np.ndarray) or x.dtype != np.float32 or x.shape != shape:
        got = f"{x.dtype} {list(x.shape)}" if isinstance(x, np.ndarray) else type(x).__name__
        raise InputError(
            f"x must be float32 {list(shape)}, got {got}; tnn_edge.camera.preprocess makes it from an image"
        )
