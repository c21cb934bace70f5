"""What the ONNX files of a bundle may contain.

Neither the ONNX checker nor ONNX Runtime suffices alone against a hostile file, so sizes, operators and external data
are checked here on the parsed protobuf, before either loads a weight.
"""

from __future__ import annotations

import math
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from tnn_edge.bundle.manifest import GateNetworkSpec
from tnn_edge.bundle.reading import Bundle
from tnn_edge.bundle.tensors import check_statistics, check_tensors, norm_statistics
from tnn_edge.errors import BundleError

__all__ = ["ALLOWED_OPERATORS", "check_structure"]

ALLOWED_OPERATORS = frozenset(
    "Add AveragePool BatchNormalization Clip Concat Conv Flatten Gemm GlobalAveragePool HardSigmoid HardSwish Identity "
    "MatMul MaxPool Mul ReduceMean Relu Reshape Sigmoid Softmax".split()
)
_MAX_NODES = 10_000
_MAX_TENSOR_BYTES = 2**31
_MAX_ATTRIBUTE = 2**20  # far above any size of a network, far below where a size of int64 overflows
_LEAST = {"group": 1, "strides": 1, "dilations": 1, "kernel_shape": 1, "pads": 0}


def check_structure(bundle: Bundle) -> None:
    """Check every block of a bundle.

    Raises:
        BundleError: a block is no ONNX model, uses an operator or a domain that is not allowed, holds functions or
            subgraphs, reads data outside the bundle, fails the ONNX checker, or does not fit the slice map and the
            statistics.
    """
    if bundle.manifest.gate_network is not None:
        _check_gate_network(bundle, bundle.manifest.gate_network)
    opset: int | None = None
    gates = {gate.name: len(gate.weights) for gate in bundle.manifest.gates}
    norms: dict[str, tuple[int, float]] = {}
    for block in bundle.manifest.blocks:
        path = bundle.path / block.file
        model = _checked_model(path, bundle)
        own_opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), None)
        opset = own_opset if opset is None else opset
        if own_opset != opset:
            raise BundleError(f"{path}: opset {own_opset}, the blocks before it {opset}; linked blocks need one opset")
        inputs, outputs = [v.name for v in model.graph.input], [v.name for v in model.graph.output]
        if (inputs, outputs) != ([block.input], [block.output]):
            raise BundleError(f"{path}: reads {inputs} and gives {outputs}, the manifest says otherwise")
        check_tensors(model.graph, block, gates, path)
        norms |= norm_statistics(model.graph, block)
    check_statistics(bundle, norms)


def _checked_model(path: Path, bundle: Bundle) -> onnx.ModelProto:
    try:
        model = onnx.load_model(str(path), load_external_data=False)
    except (DecodeError, ValueError, OSError) as err:
        raise BundleError(f"{path}: not an ONNX model ({err})") from err
    for tensor in model.graph.initializer:
        _check_tensor(tensor, path, bundle)
    _check_nodes(model, path)
    try:
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as err:
        raise BundleError(f"{path}: fails the ONNX checker: {str(err).splitlines()[0]}") from err
    return model


def _check_gate_network(bundle: Bundle, spec: GateNetworkSpec) -> None:
    path = bundle.path / spec.file
    graph = _checked_model(path, bundle).graph
    found = [(value.name, _shape(value)) for value in (*graph.input, *graph.output)]
    manifest = bundle.manifest
    declared = [
        (spec.image, list(manifest.input.shape)),
        (spec.throttle, [1]),
        (spec.scores, [1, len(manifest.operating_points)]),
    ]
    if found != declared:
        raise BundleError(f"{path}: reads and gives {found}, the manifest says {declared}")


def _shape(value: onnx.ValueInfoProto) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _check_nodes(model: onnx.ModelProto, path: Path) -> None:
    if model.functions:
        raise BundleError(f"{path}: local functions are not allowed in a bundle")
    if model.graph.sparse_initializer:
        raise BundleError(f"{path}: sparse tensors are not allowed in a bundle")
    if len(model.graph.node) > _MAX_NODES:
        raise BundleError(f"{path}: {len(model.graph.node)} nodes, at most {_MAX_NODES} are allowed")
    ranks = {tensor.name: len(tensor.dims) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv" and (len(node.input) < 2 or ranks.get(node.input[1]) != 4):
            raise BundleError(f"{path}: a convolution's weight must be an initializer of four dimensions")
        if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise BundleError(f"{path}: operator {name} is not allowed in a bundle")
        if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute):
            raise BundleError(f"{path}: {node.op_type} holds a subgraph, which is not allowed in a bundle")
        _check_attributes(node, path)


def _check_attributes(node: onnx.NodeProto, path: Path) -> None:
    for attribute in node.attribute:
        least = _LEAST.get(attribute.name, -_MAX_ATTRIBUTE)
        numbers = [attribute.i] if attribute.type == onnx.AttributeProto.INT else attribute.ints
        for number in numbers:
            if not least <= number <= _MAX_ATTRIBUTE:
                raise BundleError(
                    f"{path}: {node.op_type} has {attribute.name} {number}, it must lie in [{least}, {_MAX_ATTRIBUTE}]"
                )


def _check_tensor(tensor: onnx.TensorProto, path: Path, bundle: Bundle) -> None:
    try:
        itemsize = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError as err:
        raise BundleError(f"{path}: tensor {tensor.name} is of unknown type {tensor.data_type}") from err
    size = math.prod(tensor.dims) * itemsize
    if any(d < 0 for d in tensor.dims) or size > _MAX_TENSOR_BYTES:
        raise BundleError(f"{path}: tensor {tensor.name} of shape {list(tensor.dims)} is too large")
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        if tensor.HasField("raw_data") and len(tensor.raw_data) != size:  # older checkers let it pass
            raise BundleError(f"{path}: tensor {tensor.name} holds {len(tensor.raw_data)} bytes, its shape {size}")
        return
    place = {entry.key: entry.value for entry in tensor.external_data}
    inner = (Path(path.relative_to(bundle.path)).parent / place.get("location", "")).as_posix()
    if inner not in bundle.manifest.files:
        raise BundleError(f"{path}: tensor {tensor.name} reads {inner!r}, which the manifest does not list")
    try:
        offset, length = int(place.get("offset", "0")), int(place["length"])
    except (KeyError, ValueError) as err:
        raise BundleError(f"{path}: tensor {tensor.name} has no readable offset and length") from err
    if offset < 0 or length != size or offset + length > bundle.manifest.files[inner].bytes:
        raise BundleError(f"{path}: tensor {tensor.name} reads past the end of {inner} or has another size")
