"""Count the MACs of a linked graph, from the graph alone.

One multiply-add is one MAC; convolutions and matrix products count, bias, normalisation, activation and pooling do
not. It shares nothing with the exporter's count, so `verify` can compare the two.
"""

from __future__ import annotations

import math

import onnx

from tnn_edge.errors import PlanError
from tnn_edge.runtime.shapes import known_shapes

__all__ = ["graph_macs"]

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
        BundleError: a shape that is not known, or values that take too much memory.
    """
    shapes = known_shapes(model)
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":  # weight is [outputs, inputs / group, kernel...]: each output reads weight[0]
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][0 if transposed else -1]
        elif node.op_type not in _FREE:
            raise PlanError(f"cannot count the MACs of operator {node.op_type}")
    return total
