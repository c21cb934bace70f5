"""Round weights to integer levels that stay the same at every operating point.

Folding and slicing multiply an output channel by factors of the operating point: those go into its scale. The levels
are chosen before, on the whole tensor as it lies in the bundle, so that the plans of all points share their bytes.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from tnn_edge.bundle.quantisation import WeightBits
from tnn_edge.errors import BundleError
from tnn_edge.runtime.linking.passes.constants import constant, set_constant

__all__ = ["LARGEST_LEVEL", "LEAST_SCALE", "Levels", "RoundWeights", "channel_axis", "levels_of", "set_levels"]

Levels = npt.NDArray[np.int8]

LARGEST_LEVEL: Final[dict[WeightBits, int]] = {7: 64, 8: 127}
LEAST_SCALE: Final = 1e-12
"""The product of two stays a normal float32."""
_LARGEST_WEIGHT: Final = 1e9
_LEVELS: Final = "levels"


class RoundWeights(ir.passes.InPlacePass):
    """Round the weights of convolutions and matrix products, each output channel to multiples of a scale of its own.

    The float32 weights become level times scale; `levels_of` gives the levels, which `SliceComponents` slices too.

    Args:
        bits: of a level.

    Raises:
        BundleError: weights that are not finite.
    """

    def __init__(self, bits: WeightBits) -> None:
        super().__init__()
        self.bits: WeightBits = bits

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in model.graph:
            weight = node.inputs[1] if node.op_type in ("Conv", "Gemm") else None
            if weight is not None and weight.const_value is not None and levels_of(weight) is None:
                self._round(weight, channel_axis(node))
                modified = True
        return ir.passes.PassResult(model, modified)

    def _round(self, weight: ir.Value, axis: int) -> None:
        array = constant(weight).astype(np.float64)
        if not (np.abs(array) <= _LARGEST_WEIGHT).all():
            raise BundleError(f"{weight.name} holds weights that are not finite, or beyond {_LARGEST_WEIGHT:g}")
        largest = np.abs(array).max(axis=tuple(i for i in range(array.ndim) if i != axis), keepdims=True)
        scale = np.maximum(largest / LARGEST_LEVEL[self.bits], LEAST_SCALE)
        levels = np.rint(array / scale)
        set_constant(weight, (levels * scale).astype(np.float32))
        set_levels(weight, levels.astype(np.int8))


def levels_of(weight: ir.Value | None) -> Levels | None:
    """The levels of a rounded weight, in its shape; None for one that was not rounded."""
    levels: Levels | None = None if weight is None else weight.meta.get(_LEVELS)
    return levels


def set_levels(weight: ir.Value, levels: Levels) -> None:
    """Say what the levels of a weight are; they must be the weight's own, up to a factor for each output channel."""
    weight.meta[_LEVELS] = levels


def channel_axis(node: ir.Node) -> int:
    """Axis of the weight of a convolution or matrix product that counts output channels."""
    return 1 if node.op_type == "Gemm" and not node.attributes.get_int("transB", 0) else 0
