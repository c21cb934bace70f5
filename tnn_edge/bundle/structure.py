"""What the ONNX files of a bundle may contain.

Neither the ONNX checker nor ONNX Runtime suffices alone against a hostile file, so sizes, operators and external data
are checked here on the parsed protobuf, before either loads a weight.
"""

from __future__ import annotations

import onnx
from google.protobuf.message import DecodeError

from tnn_edge.bundle.graph_rules import ALLOWED_OPERATORS, check_graph
from tnn_edge.bundle.manifest import GateNetworkSpec
from tnn_edge.bundle.reading import MANIFEST, Bundle
from tnn_edge.bundle.tensor_data import tensor_bytes
from tnn_edge.bundle.tensors import check_statistics, check_tensors, norm_statistics
from tnn_edge.errors import BundleError

__all__ = ["ALLOWED_OPERATORS", "check_structure"]

_MAX_BLOCKS = 1024
_MAX_POINTS = 256
_MAX_MODEL_BYTES = 2 * 2**20  # parsed, a node of two bytes takes more than a hundred
_MAX_MODELS_BYTES = 16 * 2**20
_MAX_NODES = 10_000


def check_structure(bundle: Bundle) -> None:
    """Check every block of a bundle.

    Raises:
        BundleError: too many blocks, operating points or nodes; a block is too large, is no ONNX model, uses an
            operator or a domain that is not allowed, holds functions or subgraphs, reads data outside the bundle or
            twice, fails the ONNX checker, or does not fit the slice map and the statistics.
    """
    _check_counts(bundle)
    opset: int | None = None
    gates = {gate.name: len(gate.weights) for gate in bundle.manifest.gates}
    norms: dict[str, tuple[int, float]] = {}
    n_bytes = n_nodes = 0
    if bundle.manifest.gate_network is not None:
        n_bytes = _check_gate_network(bundle, bundle.manifest.gate_network)
    for block in bundle.manifest.blocks:
        path = bundle.path / block.file
        model, its_bytes = _checked_model(bundle, block.file)
        n_bytes, n_nodes = n_bytes + its_bytes, n_nodes + len(model.graph.node)
        if n_nodes > _MAX_NODES:
            raise BundleError(f"{path}: {n_nodes} nodes with the blocks before it, at most {_MAX_NODES} are allowed")
        own_opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
        opset = own_opset if opset is None else opset
        if own_opset != opset:
            raise BundleError(f"{path}: opset {own_opset}, the blocks before it {opset}; linked blocks need one opset")
        inputs, outputs = [v.name for v in model.graph.input], [v.name for v in model.graph.output]
        if (inputs, outputs) != ([block.input], [block.output]):
            raise BundleError(f"{path}: reads {inputs} and gives {outputs}, the manifest says otherwise")
        check_tensors(model.graph, block, gates, path)
        norms |= norm_statistics(model.graph, block)
    _check_bytes(bundle, n_bytes)
    check_statistics(bundle, norms)


def _check_counts(bundle: Bundle) -> None:
    manifest, path = bundle.manifest, bundle.path / MANIFEST
    for kind, n, most in (
        ("blocks", len(manifest.blocks), _MAX_BLOCKS),
        ("operating points", len(manifest.operating_points), _MAX_POINTS),
    ):
        if n > most:
            raise BundleError(f"{path}: {n} {kind}, at most {most} are allowed")
    total = sum(manifest.files[block.file].bytes for block in manifest.blocks)
    if total > _MAX_MODELS_BYTES:
        raise BundleError(f"{path}: blocks of {total} bytes without their weights, at most {_MAX_MODELS_BYTES}")


def _check_bytes(bundle: Bundle, n_bytes: int) -> None:
    """Every tensor has bytes of its own, so that reading them takes no more memory than the files."""
    there = sum(spec.bytes for spec in bundle.manifest.files.values())
    if n_bytes > there:
        raise BundleError(
            f"{bundle.path}: the tensors of the blocks take {n_bytes} bytes, all files {there}; some are read twice"
        )


def _checked_model(bundle: Bundle, file: str) -> tuple[onnx.ModelProto, int]:
    """A model without its external data, and the bytes of all its tensors."""
    path, size = bundle.path / file, bundle.manifest.files[file].bytes
    if size > _MAX_MODEL_BYTES:
        raise BundleError(
            f"{path}: {size} bytes, at most {_MAX_MODEL_BYTES} are allowed; large tensors belong into a file beside it"
        )
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as err:
        raise BundleError(f"{path}: not an ONNX model ({err})") from err
    n_bytes = sum(tensor_bytes(tensor, path, file, bundle.manifest.files) for tensor in model.graph.initializer)
    check_graph(model, path)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as err:
        raise BundleError(f"{path}: fails the ONNX checker: {str(err).splitlines()[0]}") from err
    return model, n_bytes


def _check_gate_network(bundle: Bundle, spec: GateNetworkSpec) -> int:
    """Check the gate network, and tell the bytes of its tensors."""
    path = bundle.path / spec.file
    model, n_bytes = _checked_model(bundle, spec.file)
    found = [(value.name, _shape(value)) for value in (*model.graph.input, *model.graph.output)]
    manifest = bundle.manifest
    declared = [
        (spec.image, list(manifest.input.shape)),
        (spec.throttle, [1]),
        (spec.scores, [1, len(manifest.operating_points)]),
    ]
    if found != declared:
        raise BundleError(f"{path}: reads and gives {found}, the manifest says {declared}")
    return n_bytes


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]
