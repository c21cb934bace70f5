"""Count the MACs of a linked graph, from the graph alone.

One multiply-add is one MAC; convolutions and matrix products count, bias, normalisation, activation and pooling do
not. It shares nothing with the exporter's count, so `verify` can compare the two.
"""

from __future__ import annotations

import math
from typing import Final

import onnx

from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime.linking.shapes import known_shapes

__all__ = ["MAX_MACS", "MAX_WINDOWS", "graph_macs"]

MAX_MACS: Final = 2 * 10**11
"""Of one run: thirteen times VGG-16's, and ten seconds of one fast core."""
MAX_WINDOWS: Final = 10**9
"""Values that all windows of all pooling read: a hundred times a ResNet's. They cost time and count as no MAC."""

_FREE = frozenset(  # operators that cost no MACs
    (
        "Add AveragePool BatchNormalization Clip Concat Flatten GlobalAveragePool HardSigmoid HardSwish Identity "
        "MaxPool Mul ReduceMean Relu Reshape Sigmoid Softmax"
    ).split()
)


def graph_macs(model: onnx.ModelProto) -> int:
    """MACs of one run of a model with fixed shapes.

    Raises:
        PlanError: an operator whose cost is not known.
        BundleError: a shape that is not known, values that take too much memory, or more work than any network for a
            device does.
    """
    shapes = known_shapes(model)
    total = windows = 0
    for node in model.graph.node:
        if node.op_type == "Conv":  # weight is [outputs, inputs / group, kernel...]: each output reads weight[0]
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]
        elif node.op_type not in _FREE:
            raise PlanError(f"cannot count the MACs of operator {node.op_type}")
        windows += math.prod(shapes[node.output[0]]) * _window(node)
    if total > MAX_MACS or windows > MAX_WINDOWS:
        raise BundleError(
            f"one run takes {total} MACs and pools {windows} values, at most {MAX_MACS} and {MAX_WINDOWS} are allowed"
        )
    return total


def _window(node: onnx.NodeProto) -> int:
    """Values that pooling reads for one that it gives; 0 for other operators."""
    if node.op_type not in ("AveragePool", "MaxPool"):
        return 0
    return math.prod(next((a.ints for a in node.attribute if a.name == "kernel_shape"), ()))
