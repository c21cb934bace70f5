"""Drop a ReLU that reads what is never negative."""

from __future__ import annotations

import onnx_ir as ir

__all__ = ["RemoveRepeatedRelu"]

_KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Flatten")


class RemoveRepeatedRelu(ir.passes.InPlacePass):
    """ReLU after ReLU: a block whose branch is absent and whose skip is the identity vanishes."""

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            read = node.inputs[0] if node.op_type == "Relu" else None
            if read is None or not _is_never_negative(read):
                continue
            node.outputs[0].replace_all_uses_with(read, replace_graph_outputs=True)
            model.graph.remove(node, safe=True)
            modified = True
        return ir.passes.PassResult(model, modified)


def _is_never_negative(value: ir.Value) -> bool:
    producer = value.producer()
    while producer is not None and producer.op_type in _KEEPS_SIGN and producer.inputs[0] is not None:
        producer = producer.inputs[0].producer()
    return producer is not None and producer.op_type == "Relu"
