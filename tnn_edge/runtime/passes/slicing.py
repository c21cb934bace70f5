"""Keep only the components that are on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from tnn_edge.bundle import TensorSpec
from tnn_edge.runtime.passes.constants import constant, set_constant

__all__ = ["SliceComponents"]


class SliceComponents(ir.passes.InPlacePass):
    """Slice the tensors of a block by a gate vector, and scale the summed ones by offered over on.

    Args:
        tensors: the block's slice map.
        gates: gate -> bits.

    Raises:
        ValueError: no component is on of a gate that slices or scales a tensor of the block.
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
        for axis_slice in spec.slices:
            on = [i for i, bit in enumerate(self.gates[axis_slice.gate]) if bit == "1"]
            if not on:
                raise ValueError(f"{value.name} is sliced by {axis_slice.gate}, of which no component is on")
            if len(on) < len(self.gates[axis_slice.gate]):
                entries = np.add.outer(np.array(on) * axis_slice.channels, np.arange(axis_slice.channels)).ravel()
                array = np.take(array, entries, axis=axis_slice.axis)
        if spec.scaled_by is not None:
            bits = self.gates[spec.scaled_by]
            if "1" not in bits:
                raise ValueError(f"{value.name} is scaled by {spec.scaled_by}, of which no component is on")
            if "0" in bits:
                array = array * np.float32(len(bits) / bits.count("1"))
        if array is full:
            return False
        set_constant(value, array)
        if spec.group_of is not None:
            bits = self.gates[spec.group_of]
            for use in value.uses():
                groups = use.node.attributes.get_int("group", 1) * bits.count("1") // len(bits)
                use.node.attributes["group"] = ir.AttrInt64("group", groups)
        return True


def _forget_shapes(graph: ir.Graph) -> None:
    """Shapes inside a sliced block are no longer what the exporter wrote."""
    outputs = set(graph.outputs)
    for node in graph:
        for value in node.outputs:
            if value not in outputs:
                value.shape = None
