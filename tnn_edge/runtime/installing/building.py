"""Build the plans of a bundle, in a child process.

A child, because linking a bundle fills memory that a camera should not lose, ONNX Runtime holds the interpreter's lock
while it optimises, and a hostile bundle may crash or stall it. The child ends by running a golden input through every
plan, so that nothing is run in the caller's process that was not run here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tnn_edge.bundle import Bundle, OperatingPoint, open_bundle
from tnn_edge.bundle.quantisation import WeightBits
from tnn_edge.bundle.reading import file_sha256
from tnn_edge.errors import BundleError, PlanError, VerificationError
from tnn_edge.runtime.installing.plan_key import Precision, key_digest, plan_key
from tnn_edge.runtime.installing.plans import INDEX, WEIGHTS, cannot_write, read_plans
from tnn_edge.runtime.providers import Device, SessionSettings

__all__ = ["build"]

_UNLINKABLE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What graph rewrites raise on blocks that pass the ONNX checker and still make no sense."""


def build(bundle: str, digest: str, device: Device, precision: Precision, folder: str) -> None:
    """Build the plans of a bundle into a folder, which must not be there, and run each on a golden input.

    Args:
        bundle: its folder.
        digest: that it must have.
        device: ``cpu`` or ``cuda``.
        precision: ``float32`` or ``int8``.
        folder: for the plans.

    Raises:
        BundleError: the bundle changed, or blocks cannot be linked.
        PlanError: the plans cannot be written or optimised.
        VerificationError: a plan computes something else than the golden outputs, or costs something else.
    """
    opened = open_bundle(bundle)
    if opened.digest != digest:
        raise BundleError(f"{bundle} changed while it was installed; install it again")
    try:
        _write(opened, device, precision, Path(folder))
    except OSError as err:
        raise cannot_write(Path(folder).parent, err) from err
    _probe(opened, device, precision, Path(folder))


def _write(bundle: Bundle, device: Device, precision: Precision, folder: Path) -> None:
    import onnx_ir as ir

    from tnn_edge.runtime.installing.weight_store import WeightStore
    from tnn_edge.runtime.linking.quantise import quantise, weight_bits

    folder.mkdir()
    bits = weight_bits() if precision == "int8" else None
    points = bundle.manifest.operating_points
    names = [f"point_{i:02d}.onnx" for i in range(len(points))]
    macs = [0] * len(points)
    tensors: list[list[Any]] = [[] for _ in points]
    with WeightStore(folder / WEIGHTS) as store:
        for i in reversed(range(len(points))):  # the largest first: the smaller ones are views of it
            linked, macs[i] = _linked(bundle, points[i], bits)
            if bits is not None:
                quantise(linked, bundle, points[i], bits)
            model = _optimised(ir.to_proto(linked), folder, device)
            tensors[i] = [list(tensor) for tensor in store.add_model(model)]
            ir.save(model, folder / names[i])
        index = {
            "key": plan_key(bundle, device, precision),
            "plans": names,
            "macs": macs,
            "tensors": tensors,
            "offered_bytes": store.offered_bytes,
            "stored_bytes": store.stored_bytes,
        }
    index["files"] = {name: file_sha256(folder / name) for name in (*names, WEIGHTS)}
    (folder / INDEX).write_text(json.dumps(index | {"sha256": key_digest(index)}))


def _linked(bundle: Bundle, point: OperatingPoint, weight_bits: WeightBits | None) -> tuple[Any, int]:
    """The sub-network of an operating point, and the MACs counted on it."""
    import onnx
    import onnx_ir as ir

    from tnn_edge.runtime.linking.linker import link
    from tnn_edge.runtime.linking.macs import graph_macs

    where = f"{bundle.path}: blocks cannot be linked at u={point.u:g}"
    try:
        linked = link(bundle, point.gates, weight_bits)
        macs = graph_macs(ir.to_proto(linked))
    except BundleError as err:
        raise BundleError(f"{where}: {err}") from err
    except _UNLINKABLE as err:
        raise PlanError(f"{where}: {str(err).partition(chr(10))[0] or type(err).__name__}") from err
    except onnx.shape_inference.InferenceError as err:
        raise PlanError(f"{where}: {str(err).partition(chr(10))[0]}") from err
    if macs != point.macs:
        raise BundleError(f"{bundle.path}: {macs} MACs in the linked graph at u={point.u:g}, {point.macs} declared")
    return linked, macs


def _optimised(model: Any, folder: Path, device: Device) -> Any:
    """What ONNX Runtime makes of a model on this device."""
    import onnx_ir as ir

    from tnn_edge.runtime.linking.optimising import save_optimised

    path = folder / "optimised.onnx"
    save_optimised(model, path, device)
    optimised = ir.load(path)
    path.unlink()
    return optimised


def _probe(bundle: Bundle, device: Device, precision: Precision, folder: Path) -> None:
    """Load the plans as an engine does, and run one golden input through each and through the gate network."""
    from tnn_edge.runtime.engine import Engine
    from tnn_edge.runtime.verify import verify

    plans = read_plans(folder, plan_key(bundle, device, precision))
    if plans is None:
        raise PlanError(f"the plans in {folder} changed while they were written; run the install again")
    with Engine(bundle, plans, device, SessionSettings()) as engine:
        faults = verify(engine, n_inputs=1).faults
    if faults:
        raise VerificationError(f"{bundle.path}: {'; '.join(faults)}; export the bundle again")
