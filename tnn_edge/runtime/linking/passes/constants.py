"""Reading and replacing the constants of a graph."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

__all__ = ["FloatArray", "constant", "set_constant"]

FloatArray = npt.NDArray[np.float32]


def constant(value: ir.Value | None) -> FloatArray:
    """The array that an initializer holds."""
    if value is None or value.const_value is None:
        raise ValueError(f"{value.name if value is not None else 'a missing input'} is no constant")
    return value.const_value.numpy()


def set_constant(value: ir.Value, array: FloatArray) -> None:
    """Give an initializer another array, of any shape."""
    array = np.ascontiguousarray(array, dtype=np.float32)
    value.const_value = ir.tensor(array, name=value.name)
    value.shape = ir.Shape(array.shape)
    value.type = ir.TensorType(ir.DataType.FLOAT)
