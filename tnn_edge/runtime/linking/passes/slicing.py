"""Keep only the components that are on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from tnn_edge.bundle import Slice, TensorSpec
from tnn_edge.runtime.linking.passes.constants import FloatArray, constant, set_constant
from tnn_edge.runtime.linking.passes.round_weights import levels_of, set_levels

__all__ = ["SliceComponents"]


class SliceComponents(ir.passes.InPlacePass):
    """Slice the tensors of a block by a gate vector, and scale what sums components by offered over on.

    Args:
        tensors: the block's slice map.
        gates: gate -> bits.

    Raises:
        ValueError: nothing would remain of a tensor.
    """

    def __init__(self, tensors: Mapping[str, TensorSpec], gates: Mapping[str, str]) -> None:
        super().__init__()
        self.tensors = tensors
        self.gates = gates

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for name, spec in self.tensors.items():
            value = model.graph.initializers.get(name)
            if value is None:  # folded into another tensor
                continue
            modified = self._slice(value, spec) or modified
        if modified:
            _forget_shapes(model.graph)
        return ir.passes.PassResult(model, modified)

    def _slice(self, value: ir.Value, spec: TensorSpec) -> bool:
        array = full = constant(value)
        levels = levels_of(value)
        for axis_slice in spec.slices:
            bits = self.gates[axis_slice.gate][: axis_slice.components]
            if "0" in bits:
                kept = _kept(axis_slice, bits)
                array = _scaled(np.take(array, kept, axis=axis_slice.axis), axis_slice, bits)
                levels = None if levels is None else np.take(levels, kept, axis=axis_slice.axis)
            if not array.shape[axis_slice.axis]:
                raise ValueError(f"{value.name} is sliced by {axis_slice.gate}, of which no component is on")
        if array is full:
            return False
        set_constant(value, array)
        if levels is not None:
            set_levels(value, levels)
        if spec.group_of is not None:
            bits = self.gates[spec.group_of]
            for use in value.uses():
                groups = use.node.attributes.get_int("group", 1) * bits.count("1") // len(bits)
                use.node.attributes["group"] = ir.AttrInt64("group", groups)
        return True


def _kept(axis_slice: Slice, bits: str) -> npt.NDArray[np.intp]:
    """Entries of one axis that belong to no component that is off; bits are those of the components on this axis."""
    on = np.flatnonzero([bit == "1" for bit in bits])
    gated = np.add.outer(on * axis_slice.channels, np.arange(axis_slice.channels)).ravel() + axis_slice.ungated
    return np.concatenate([np.arange(axis_slice.ungated), gated]).astype(np.intp)


def _scaled(array: FloatArray, axis_slice: Slice, bits: str) -> FloatArray:
    """A sliced array with its gated entries times components offered over components on, where the slice says so."""
    if not axis_slice.scaled or "1" not in bits:
        return array
    factors = np.ones(array.shape[axis_slice.axis], dtype=np.float32)
    factors[axis_slice.ungated :] = len(bits) / bits.count("1")
    return array * factors.reshape([-1 if axis == axis_slice.axis else 1 for axis in range(array.ndim)])


def _forget_shapes(graph: ir.Graph) -> None:
    """Shapes inside a sliced block are no longer what the exporter wrote."""
    outputs = set(graph.outputs)
    for node in graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
