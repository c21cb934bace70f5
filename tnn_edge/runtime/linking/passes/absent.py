"""Leave out what belongs to components that are off."""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

__all__ = ["RemoveAbsentBranches"]


class RemoveAbsentBranches(ir.passes.InPlacePass):
    """Take values out of the additions and concatenations that read them, and drop what only they needed.

    An addition of which one operand is absent is its other operand, a concatenation of one value is that value.

    Args:
        branches: names of the values.
    """

    def __init__(self, branches: Collection[str]) -> None:
        super().__init__()
        self.branches = frozenset(branches)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type not in ("Add", "Concat"):
                continue
            present = [value for value in node.inputs if value is not None and value.name not in self.branches]
            if not present or len(present) == len(node.inputs):
                continue
            if len(present) == 1:
                node.outputs[0].replace_all_uses_with(present[0], replace_graph_outputs=True)
            else:
                self._concatenate(model.graph, node, present)
            modified = True
        if modified:
            RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, modified)

    @staticmethod
    def _concatenate(graph: ir.Graph, node: ir.Node, present: list[ir.Value]) -> None:
        shorter = ir.node("Concat", present, attributes=node.attributes, name=node.name)
        graph.insert_after(node, shorter)
        old, new = node.outputs[0], shorter.outputs[0]
        new.name, old.name, new.type = old.name, f"{old.name}.full", old.type
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(node, safe=True)
