"""Link the blocks that a gate vector leaves on into one graph.

Each block is folded (normalisation into convolutions), freed of what belongs to components that are off (layers of a
dense block; the whole branch of a summed one) and sliced (their channels leave the tensors); then all are joined. The
result is an ordinary ONNX model of the sub-network, which ONNX Runtime optimises as a whole: chained per-block sessions
lose the blocked memory layout and the fusions at every border.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from tnn_edge.bundle import BlockSpec, Bundle, TensorSpec
from tnn_edge.bundle.quantisation import WeightBits
from tnn_edge.runtime.linking.passes import (
    FoldNormalisation,
    RemoveAbsentBranches,
    RemoveRepeatedRelu,
    RoundWeights,
    SliceComponents,
)
from tnn_edge.runtime.linking.passes.constants import FloatArray

__all__ = ["absent_branches", "block_statistics", "link", "link_block", "link_blocks"]


def link_blocks(
    bundle: Bundle, gates: Mapping[str, str], weight_bits: WeightBits | None = None
) -> Iterator[tuple[BlockSpec, ir.Model]]:
    """Each block as the gate vector leaves it, in the order in which they run.

    A block of which nothing is left (a dense block without a layer) is passed over.

    Args:
        bundle: an opened bundle.
        gates: gate -> bits, for every gate of the bundle.
        weight_bits: to round the weights to, as `RoundWeights` does; None to leave them.
    """
    for block in bundle.manifest.blocks:
        model = link_block(bundle, block, gates, weight_bits)
        if model is not None:
            yield block, model


def link_block(
    bundle: Bundle, block: BlockSpec, gates: Mapping[str, str], weight_bits: WeightBits | None = None
) -> ir.Model | None:
    """One block as the gate vector leaves it, None where nothing is left; shapes at its borders to others are open."""
    model = ir.external_data.load_to_model(ir.load(bundle.path / block.file))
    if weight_bits is not None:
        RoundWeights(weight_bits)(model)
    FoldNormalisation(block_statistics(bundle, block, bundle.manifest.statistics_for(gates)))(model)
    if absent := absent_branches(block, gates):
        RemoveAbsentBranches(absent)(model)
    if model.graph.outputs[0] is model.graph.inputs[0]:
        return None
    SliceComponents(_present(block, model), gates)(model)
    _forget_shapes(model.graph)
    if block is not bundle.manifest.blocks[0]:
        model.graph.inputs[0].shape = None
    if block is not bundle.manifest.blocks[-1]:
        model.graph.outputs[0].shape = None
    return model


def link(bundle: Bundle, gates: Mapping[str, str], weight_bits: WeightBits | None = None) -> ir.Model:
    """One model of the sub-network: input and output as the manifest names them, node names ``<block>/<node>``.

    Arguments as in `link_blocks`.
    """
    joined: ir.Model | None = None
    output: ir.Value | None = None
    for block, model in link_blocks(bundle, gates, weight_bits):
        _prefix_names(model.graph, block.name)
        if joined is None or output is None:
            joined = model
            joined.graph.name = bundle.manifest.name
            joined.graph.inputs[0].name = bundle.manifest.input.name
        else:
            model.graph.inputs[0].replace_all_uses_with(output, replace_graph_outputs=True)
            block_output = model.graph.outputs[0]
            _move(model.graph, joined.graph)
            joined.graph.outputs[:] = [block_output]
        output = joined.graph.outputs[0]
    assert joined is not None
    RemoveRepeatedRelu()(joined)
    RemoveUnusedNodesPass()(joined)
    joined.graph.outputs[0].name = bundle.manifest.output
    return joined


def block_statistics(bundle: Bundle, block: BlockSpec, row: int | None) -> dict[str, FloatArray]:
    """Normalisation statistics of one block in one row; empty for None, which is those in the block."""
    if row is None:
        return {}
    prefix = f"{block.name}/"
    return {
        name.removeprefix(prefix): values[row] for name, values in bundle.statistics.items() if name.startswith(prefix)
    }


def absent_branches(block: BlockSpec, gates: Mapping[str, str]) -> list[str]:
    """The block's branches of which the component, or every component, is off."""
    if block.gate is None:
        return []
    bits = gates[block.gate]
    return [
        value
        for value, component in block.branches.items()
        if (bits[component] == "0" if component is not None else "1" not in bits)
    ]


def _present(block: BlockSpec, model: ir.Model) -> dict[str, TensorSpec]:
    return {name: spec for name, spec in block.tensors.items() if name in model.graph.initializers}


def _prefix_names(graph: ir.Graph, prefix: str) -> None:
    for value in list(graph.initializers.values()):
        value.name = f"{prefix}/{value.name}"
    for node in graph:
        node.name = f"{prefix}/{node.name}"
        for value in node.outputs:
            value.name = f"{prefix}/{value.name}"


def _forget_shapes(graph: ir.Graph) -> None:
    """Shapes between nodes are what the full blocks claim; what counts memory must infer them."""
    for node in graph:
        for value in node.outputs:
            if not value.is_graph_output():
                value.shape = None


def _move(source: ir.Graph, target: ir.Graph) -> None:
    """Move nodes and initializers from one graph to the end of another."""
    nodes = list(source)
    source.outputs.clear()
    source.remove(nodes)
    values = list(source.initializers.values())
    source.initializers.clear()
    for value in values:
        target.register_initializer(value)
    target.extend(nodes)
