"""What the graph of a block may be made of."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import onnx

from tnn_edge.errors import BundleError

__all__ = ["ALLOWED_OPERATORS", "check_graph"]

ALLOWED_OPERATORS: Final = frozenset(
    "Add AveragePool BatchNormalization Clip Concat Conv Flatten Gemm GlobalAveragePool HardSigmoid HardSwish Identity "
    "MatMul MaxPool Mul ReduceMean Relu Reshape Sigmoid Softmax".split()
)
_PLAIN = frozenset(
    onnx.AttributeProto.AttributeType.Value(kind) for kind in "FLOAT INT STRING FLOATS INTS STRINGS".split()
)
_GRAPHS = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_MAX_NODES = 10_000
_MAX_TENSORS = 20_000
_MAX_EDGES = 10 * _MAX_NODES
_MAX_INPUTS = 256  # of one node: four times the layers of the largest dense block; linking is quadratic in them
_MAX_NUMBERS = 64  # of one attribute: more than any operator on the list reads
_MAX_ATTRIBUTE = 2**20  # far above any size of a network, far below where a size of int64 overflows
_LEAST = {"group": 1, "strides": 1, "dilations": 1, "kernel_shape": 1, "pads": 0}


def check_graph(model: onnx.ModelProto, path: Path) -> None:
    """Check everything in a model but its tensors.

    Args:
        model: parsed without external data.
        path: of the file, for the error.

    Raises:
        BundleError: local functions, subgraphs, sparse tensors or training graphs; too many nodes, tensors, edges or
            inputs of a node; an input or output that is not float32; an operator, a domain, a kind of attribute or a
            number in one that is not allowed.
    """
    if model.functions:
        raise BundleError(f"{path}: local functions are not allowed in a bundle")
    if model.training_info:
        raise BundleError(f"{path}: training graphs are not allowed in a bundle")
    graph = model.graph
    if graph.sparse_initializer:
        raise BundleError(f"{path}: sparse tensors are not allowed in a bundle")
    _check_count(path, "nodes", len(graph.node), _MAX_NODES)
    _check_count(path, "tensors", len(graph.initializer), _MAX_TENSORS)
    _check_count(path, "edges", sum(len(node.input) + len(node.output) for node in graph.node), _MAX_EDGES)
    _check_named_once(path, (tensor.name for tensor in graph.initializer))
    for value in (*graph.input, *graph.output):
        if value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            raise BundleError(f"{path}: {value.name} must be float32, as all that a network reads and gives")
    ranks = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv" and (len(node.input) < 2 or ranks.get(node.input[1]) != 4):
            raise BundleError(f"{path}: a convolution's weight must be an initializer of four dimensions")
        if node.domain not in ("", "ai.onnx") or node.op_type not in ALLOWED_OPERATORS:
            name = f"{node.domain}::{node.op_type}" if node.domain else node.op_type
            raise BundleError(f"{path}: operator {name} is not allowed in a bundle")
        _check_count(path, f"inputs of {node.op_type}", len(node.input), _MAX_INPUTS)
        for attribute in node.attribute:
            _check_attribute(node, attribute, path)


def _check_count(path: Path, kind: str, n: int, most: int) -> None:
    if n > most:
        raise BundleError(f"{path}: {n} {kind}, at most {most} are allowed")


def _check_named_once(path: Path, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise BundleError(f"{path}: two tensors are named {name}; each needs a name of its own")
        seen.add(name)


def _check_attribute(node: onnx.NodeProto, attribute: onnx.AttributeProto, path: Path) -> None:
    if attribute.type in _GRAPHS:
        raise BundleError(f"{path}: {node.op_type} holds a subgraph, which is not allowed in a bundle")
    if attribute.type not in _PLAIN or attribute.HasField("t") or attribute.tensors:
        raise BundleError(f"{path}: {node.op_type} has {attribute.name} that is neither numbers nor text")
    _check_count(path, f"numbers in {attribute.name} of {node.op_type}", len(attribute.ints), _MAX_NUMBERS)
    least = _LEAST.get(attribute.name, -_MAX_ATTRIBUTE)
    for number in [attribute.i] if attribute.type == onnx.AttributeProto.INT else attribute.ints:
        if not least <= number <= _MAX_ATTRIBUTE:
            raise BundleError(
                f"{path}: {node.op_type} has {attribute.name} {number}, it must lie in [{least}, {_MAX_ATTRIBUTE}]"
            )
