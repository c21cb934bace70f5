"""The shape of every value in a linked graph, and a bound on the memory that running it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import onnx

from tnn_edge.errors import BundleError

__all__ = ["MAX_ALL_BYTES", "MAX_VALUE_BYTES", "give_input_shape", "known_shapes"]

MAX_VALUE_BYTES: Final = 256 * 2**20
MAX_ALL_BYTES: Final = 2 * 2**30
"""Of all values together: more than ONNX Runtime ever holds at once, as it reuses memory."""


def known_shapes(model: onnx.ModelProto) -> dict[str, list[int]]:
    """Name -> shape of every input, constant and node output, by shape inference.

    Raises:
        BundleError: a shape that is not known before the graph runs, or values that take too much memory.
        onnx.shape_inference.InferenceError: shapes that contradict each other.
    """
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = {value.name: value for value in (*graph.value_info, *graph.input, *graph.output)}
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    total = 0
    for name in (*(value.name for value in graph.input), *(name for node in graph.node for name in node.output)):
        if not name:  # an optional output that is left out
            continue
        tensor = values[name].type.tensor_type if name in values else onnx.TypeProto.Tensor()
        shapes[name] = [dim.dim_value for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or any(size < 1 for size in shapes[name]):
            raise BundleError(f"the shape of {name} is not known before the network runs; export it with fixed shapes")
        n_bytes = math.prod(shapes[name]) * onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).itemsize
        total += n_bytes
        if n_bytes > MAX_VALUE_BYTES or total > MAX_ALL_BYTES:
            raise BundleError(
                f"{name} of shape {shapes[name]} takes {n_bytes} bytes, with the values before it {total}; "
                f"at most {MAX_VALUE_BYTES} for one and {MAX_ALL_BYTES} for all are allowed"
            )
    return shapes


def give_input_shape(model: onnx.ModelProto, shape: Sequence[int]) -> list[int]:
    """Set the shape of a model's only input, and tell the shape of its only output."""
    (taken,), (given,) = model.graph.input, model.graph.output
    elem_type = taken.type.tensor_type.elem_type
    taken.CopyFrom(onnx.helper.make_tensor_value_info(taken.name, elem_type, shape))
    return known_shapes(model)[given.name]
