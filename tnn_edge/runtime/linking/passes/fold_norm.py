"""Fold batch normalisation into the convolution before it, sharing weights between operating points.

Folding the statistics (mu_u, sigma_u) of an operating point into a convolution makes its weights different at every
point. Where the normalisation is followed by ReLU and one convolution, ReLU(s z) = s ReLU(z) for s > 0 offers another
way: with the statistics (mu_1, sigma_1) of u = 1 and s = sigma_1 / sigma_u, per channel,

    W' = (gamma / sigma_1) W                        the same bytes at every u
    b' = beta / s - gamma mu_u / sigma_1
    norm_u(W x) = s (W' x + b')

and s goes into the next convolution's input channels. Elsewhere (before an addition, after the stem) s goes into this
convolution, whose weights then differ at points with statistics of their own. Weights on integer levels take s
themselves, too: it changes the scales of their output channels and leaves the levels as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from tnn_edge.runtime.linking.passes.constants import FloatArray, constant, set_constant
from tnn_edge.runtime.linking.passes.round_weights import levels_of

__all__ = ["FoldNormalisation"]

_Double = npt.NDArray[np.float64]


class FoldNormalisation(ir.passes.InPlacePass):
    """Fold every BatchNormalization that follows a convolution.

    The convolution keeps its weight's name and takes the normalisation's bias as its own, so that the slice map holds
    for the folded graph too.

    Args:
        statistics: initializer name of a running mean or variance -> values at this operating point, full width;
            names that are missing keep the block's, which are those of u = 1.
    """

    def __init__(self, statistics: Mapping[str, FloatArray]) -> None:
        super().__init__()
        self.statistics = statistics

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        modified = False
        for node in list(model.graph):
            if node.op_type != "BatchNormalization":
                continue
            conv = node.inputs[0].producer() if node.inputs[0] is not None else None
            if conv is not None and conv.op_type == "Conv" and len(conv.outputs[0].uses()) == 1:
                self._fold(model.graph, conv, node)
                modified = True
            else:
                modified = self._use_statistics(node) or modified
        return ir.passes.PassResult(model, modified)

    def _use_statistics(self, norm: ir.Node) -> bool:
        """For a normalisation that cannot be folded; `_fold` reads the point's statistics itself."""
        changed = False
        for value in norm.inputs[3:5]:
            if value is not None and value.name in self.statistics:
                set_constant(value, self.statistics[str(value.name)])
                changed = True
        return changed

    def _fold(self, graph: ir.Graph, conv: ir.Node, norm: ir.Node) -> None:
        gamma, beta, mean_1, var_1 = (constant(value).astype(np.float64) for value in norm.inputs[1:5])
        epsilon = norm.attributes.get_float("epsilon", 1e-5)
        mean_u, var_u = self._at_point(norm.inputs[3], mean_1), self._at_point(norm.inputs[4], var_1)
        sigma_1, sigma_u = np.sqrt(var_1 + epsilon), np.sqrt(var_u + epsilon)
        factor = gamma / sigma_1
        scale = sigma_1 / sigma_u
        bias = beta / scale - mean_u * factor
        if len(conv.inputs) == 3 and conv.inputs[2] is not None:
            bias = bias + constant(conv.inputs[2]) * factor
        weight = conv.inputs[1]
        assert weight is not None
        if not np.array_equal(scale, np.ones_like(scale)):
            consumer = _convolution_behind_relu(norm.outputs[0])
            if consumer is not None and levels_of(weight) is None:
                _scale_inputs(consumer, scale)
            else:
                factor, bias = factor * scale, bias * scale
        set_constant(weight, (constant(weight) * factor[:, None, None, None]).astype(np.float32))
        new_bias = norm.inputs[2]
        assert new_bias is not None
        set_constant(new_bias, bias.astype(np.float32))
        folded = ir.node("Conv", [conv.inputs[0], weight, new_bias], attributes=conv.attributes, name=conv.name)
        graph.insert_after(norm, folded)
        output = norm.outputs[0]
        folded.outputs[0].name, output.name = output.name, f"{output.name}.unfolded"
        output.replace_all_uses_with(folded.outputs[0], replace_graph_outputs=True)
        constants = norm.inputs[1:]  # removal clears the node's inputs
        graph.remove(norm, safe=True)
        graph.remove(conv, safe=True)
        for value in constants:
            if value is not None and value is not new_bias and not value.uses() and value.name in graph.initializers:
                graph.initializers.pop(str(value.name))

    def _at_point(self, value: ir.Value | None, full: _Double) -> _Double:
        assert value is not None
        return np.asarray(self.statistics.get(str(value.name), full), dtype=np.float64)


def _convolution_behind_relu(value: ir.Value) -> ir.Node | None:
    """The only reader of `value` being ReLU, and the only reader of that a convolution: that convolution."""
    for op_type in ("Relu", "Conv"):
        uses = value.uses()
        if len(uses) != 1 or value.is_graph_output():
            return None
        use = next(iter(uses))
        if use.node.op_type != op_type or use.idx != 0:
            return None
        if op_type == "Conv":
            return use.node
        value = use.node.outputs[0]
    return None


def _scale_inputs(conv: ir.Node, scale: _Double) -> None:
    weight = conv.inputs[1]
    assert weight is not None
    full = constant(weight)
    groups = conv.attributes.get_int("group", 1)
    outputs, inputs = full.shape[:2]
    by_group = full.reshape(groups, outputs // groups, inputs, *full.shape[2:])
    factors = scale.reshape(groups, 1, inputs, *(1 for _ in full.shape[2:]))
    set_constant(weight, (by_group * factors).astype(np.float32).reshape(full.shape))
