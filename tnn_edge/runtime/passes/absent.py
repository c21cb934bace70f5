"""Leave out a branch of which no component is on."""

from __future__ import annotations

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

__all__ = ["RemoveAbsentBranch"]


class RemoveAbsentBranch(ir.passes.InPlacePass):
    """Replace the addition of an all-zero branch by its other operand, and drop what only the branch needed.

    Args:
        branch: name of the value that is exactly zero.
    """

    def __init__(self, branch: str) -> None:
        super().__init__()
        self.branch = branch

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        for node in list(model.graph):
            names = [value.name for value in node.inputs if value is not None]
            if node.op_type == "Add" and self.branch in names:
                other = node.inputs[1 - names.index(self.branch)]
                assert other is not None
                node.outputs[0].replace_all_uses_with(other, replace_graph_outputs=True)
                RemoveUnusedNodesPass()(model)
                return ir.passes.PassResult(model, True)
        return ir.passes.PassResult(model, False)
