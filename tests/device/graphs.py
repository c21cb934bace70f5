"""Small graphs from their text, and what ONNX Runtime makes of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

Array = npt.NDArray[np.float32]

EPSILON = 1e-5


def model_of(text: str, constants: Mapping[str, Array] | None = None) -> ir.Model:
    """A model from the text of its graph; its constants are initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def run(model: ir.Model, x: Array) -> Array:
    """What ONNX Runtime computes without any optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def drawn(seed: int, *shape: int, low: float = -1.0) -> Array:
    return np.random.default_rng(seed).uniform(low, 1.0, shape).astype(np.float32)


IMAGE = drawn(99, 1, 3, 6, 6)
