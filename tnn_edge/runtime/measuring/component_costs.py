"""What each component costs on this machine, in milliseconds: cost weights for training a gate.

A block is timed with all its components on and with as few as it can do with, both alone in a session; the difference
is shared out among the components as their MACs are.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx

from tnn_edge.bundle import BlockSpec, Bundle, GateSpec
from tnn_edge.runtime.linking.shapes import give_input_shape
from tnn_edge.runtime.providers import Device, SessionSettings, open_session, session_options

__all__ = ["component_costs", "share_out"]

_LEAST_SHARE = 0.01
"""Of a block's time, where noise hides what its components take."""


def component_costs(
    bundle: Bundle, device: Device = "cpu", *, settings: SessionSettings | None = None, rounds: int = 50
) -> dict[str, list[float]]:
    """Milliseconds of every component, with all others on.

    Args:
        bundle: an opened bundle.
        device: to time on.
        settings: threads and spinning.
        rounds: passes over all blocks; the medians count.

    Returns:
        Gate -> milliseconds of each component.

    Raises:
        BundleError: a block is unsound.
        PlanError: ONNX Runtime refuses a block.
    """
    from tnn_edge.bundle.structure import check_structure

    check_structure(bundle)
    settings = settings or SessionSettings()
    runs = list(_runs(bundle, device, settings))
    times: list[tuple[list[float], list[float]]] = [([], []) for _ in runs]
    for i in range(rounds + 1):
        for (_, _, *pair), found in zip(runs, times, strict=True):
            for run, each in zip(pair, found, strict=True):
                start = time.perf_counter_ns()
                run()
                if i:  # the first pass warms up
                    each.append((time.perf_counter_ns() - start) / 1e6)
    return {
        gate.name: share_out(gate, statistics.median(full_ms), statistics.median(fewest_ms), fewest)
        for (gate, fewest, _, _), (full_ms, fewest_ms) in zip(runs, times, strict=True)
    }


def share_out(gate: GateSpec, full_ms: float, fewest_ms: float, fewest: str) -> list[float]:
    """The time that components take, shared out as their weights are.

    Args:
        gate: the gate with the components' weights.
        full_ms: time of the block with all of them on.
        fewest_ms: time with those of `fewest` on.
        fewest: bits.
    """
    left = sum(weight for weight, bit in zip(gate.weights, fewest, strict=True) if bit == "1")
    ms = max(full_ms - fewest_ms, _LEAST_SHARE * full_ms) / (sum(gate.weights) - left)
    return [weight * ms for weight in gate.weights]


def _fewest(block: BlockSpec, bits: str) -> str:
    """None on where the block has a branch to leave out, else the first."""
    return "0" * len(bits) if block.branches or len(bits) == 1 else "1" + "0" * (len(bits) - 1)


def _runs(
    bundle: Bundle, device: Device, settings: SessionSettings
) -> Iterator[tuple[GateSpec, str, Callable[[], None], Callable[[], None]]]:
    """For each gate: the bits of its fewest components, a run of its block with all on, a run with those."""
    import onnx_ir as ir

    from tnn_edge.runtime.linking.linker import link_block

    gates = {gate.name: gate for gate in bundle.manifest.gates}
    full = {name: "1" * len(gate.weights) for name, gate in gates.items()}
    shape: Sequence[int] = bundle.manifest.input.shape
    for block in bundle.manifest.blocks:
        linked = link_block(bundle, block, full)
        assert linked is not None  # with everything on something is left
        model = ir.to_proto(linked)
        read, shape = shape, give_input_shape(model, shape)
        if block.gate is None:
            continue
        bits = _fewest(block, full[block.gate])
        least = link_block(bundle, block, {**full, block.gate: bits})
        run = _bound(model, read, device, settings)
        if least is None:
            yield gates[block.gate], bits, run, lambda: None
        else:
            model = ir.to_proto(least)
            give_input_shape(model, read)
            yield gates[block.gate], bits, run, _bound(model, read, device, settings)


def _bound(
    model: onnx.ModelProto, shape: Sequence[int], device: Device, settings: SessionSettings
) -> Callable[[], None]:
    """A run of a model with input and output bound to memory of their own."""
    session = open_session(model.SerializeToString(), session_options(settings, optimise=True), device)
    binding = session.io_binding()
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    binding.bind_cpu_input(session.get_inputs()[0].name, x)
    binding.bind_output(session.get_outputs()[0].name, "cpu")
    return partial(_run, session, binding)


def _run(session: Any, binding: Any) -> None:
    session.run_with_iobinding(binding)
