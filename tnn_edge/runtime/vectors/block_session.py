"""One ONNX Runtime session for a block of one structure, which reads its weights as inputs.

Weights that are inputs are not laid out for the CPU: ONNX Runtime does that to constants, while it optimises. So the
block is optimised with constants first, and then the constants of the optimised graph are made inputs. Alone, a block
would also reorder the channels of what it reads and gives at every border. It is optimised between two poolings of one
pixel, which leave the values as they are and make ONNX Runtime reorder outside of them, and is cut out afterwards: the
blocks of a chain hand each other the reordered channels.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper

from tnn_edge.errors import PlanError
from tnn_edge.runtime.linking.macs import graph_macs
from tnn_edge.runtime.linking.optimising import save_optimised
from tnn_edge.runtime.linking.shapes import give_input_shape
from tnn_edge.runtime.providers import SessionSettings, open_session, session_options
from tnn_edge.runtime.vectors.skeleton import CanonicalBlock
from tnn_edge.runtime.vectors.weight_layout import FloatArray, Layout, recognised

__all__ = ["BlockSession", "Border", "WeightInput"]

_IR_VERSION = 8
_INNER_INPUT, _INNER_OUTPUT = "inside.x", "inside.y"


class Border(NamedTuple):
    """What one block hands to the next.

    Attributes:
        shape: of the value.
        is_blocked: its channels lie in blocks, as ONNX Runtime's convolutions read them.
    """

    shape: tuple[int, ...]
    is_blocked: bool


class WeightInput(NamedTuple):
    """An input of the session that a weight is bound to.

    Attributes:
        name: of the input.
        weight: position of the weight among those of the block.
        layout: how the session reads it.
        shape: that the input has.
    """

    name: str
    weight: int
    layout: Layout
    shape: tuple[int, ...]


class BlockSession:
    """A block of one structure, for every gate vector and every block that has it.

    Attributes:
        session: of ONNX Runtime.
        x: name of the input for the value from the block before.
        y: name of the output.
        weights: the other inputs.
        gives: what the next block reads.
    """

    def __init__(self, block: CanonicalBlock, reads: Border, settings: SessionSettings, *, is_last: bool) -> None:
        """Optimise a block and open its session.

        Args:
            block: the structure.
            reads: what the block before gives; the first block reads the image, which is not blocked.
            settings: threads and spinning.
            is_last: the block gives logits, which are not blocked.

        Raises:
            PlanError: ONNX Runtime refuses the block, or merges its weights with each other.
            BundleError: shapes that are not known or too large, or too much work.
        """
        model, weights = _with_random_weights(block, reads.shape)
        shape = tuple(give_input_shape(model, reads.shape))
        graph_macs(model)  # which refuses more work than a run may take
        has_fence_after = len(shape) == 4 and not is_last
        _fence(model.graph, before=reads.is_blocked, after=has_fence_after)
        optimised = _optimised(model)
        graph = optimised.graph
        self.x = _cut_before(graph) if reads.is_blocked else graph.input[0].name
        self.y, is_blocked = _cut_after(graph) if has_fence_after else (graph.output[0].name, False)
        self.gives = Border(shape, is_blocked)
        self.weights = _promote(graph, block, weights)
        del graph.input[:], graph.output[:], graph.value_info[:]
        inputs = [(self.x, reads.shape), *((each.name, each.shape) for each in self.weights)]
        graph.input.extend(_float_value(name, each) for name, each in inputs)
        graph.output.append(_float_value(self.y, shape))
        self.session: Any = open_session(
            optimised.SerializeToString(), session_options(settings, optimise=False), "cpu"
        )


def _float_value(name: str, shape: Sequence[int]) -> onnx.ValueInfoProto:
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)


def _with_random_weights(block: CanonicalBlock, shape: Sequence[int]) -> tuple[onnx.ModelProto, list[FloatArray]]:
    """The block as a model with constants that no two weights share."""
    rng = np.random.default_rng(0)
    weights = [rng.random(each, dtype=np.float32) + np.float32(0.5) for each in block.weight_shapes]
    for node in block.nodes:
        if node.op_type == "BatchNormalization":  # they are so in every block, and its session counts on it
            for name, value in zip(node.inputs[3:5], (0, 1), strict=True):
                weights[int(name[1:])].fill(value)
    graph = onnx.helper.make_graph(
        [node.to_proto() for node in block.nodes],
        "block",
        [_float_value("x", shape)],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)],
        [onnx.TensorProto.FromString(data) for data in block.constants]
        + [numpy_helper.from_array(weight, f"w{i}") for i, weight in enumerate(weights)],
    )
    opset = onnx.helper.make_opsetid("", block.opset)
    return onnx.helper.make_model(graph, ir_version=_IR_VERSION, opset_imports=[opset]), weights


def _fence(graph: onnx.GraphProto, *, before: bool, after: bool) -> None:
    names = ({"x": _INNER_INPUT} if before else {}) | ({"y": _INNER_OUTPUT} if after else {})
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
    if before:
        graph.node.insert(0, onnx.helper.make_node("MaxPool", ["x"], [_INNER_INPUT], kernel_shape=[1, 1]))
    if after:
        graph.node.append(onnx.helper.make_node("MaxPool", [_INNER_OUTPUT], ["y"], kernel_shape=[1, 1]))


def _optimised(model: onnx.ModelProto) -> onnx.ModelProto:
    try:
        with tempfile.TemporaryDirectory(prefix="tnn-edge-") as folder:
            path = Path(folder) / "block.onnx"
            save_optimised(model, path)
            return onnx.load_model(str(path))
    except OSError as err:
        raise PlanError(f"a block cannot be optimised: {err.strerror}; set TMPDIR to another folder") from err


def _cut_before(graph: onnx.GraphProto) -> str:
    """Take the first fence away; the name of the value behind it, whose channels are in blocks."""
    reorder = next((node for node in graph.node if "x" in node.input), None)
    fence = next((node for node in graph.node if reorder is not None and reorder.output[0] in node.input), None)
    if reorder is None or fence is None or (reorder.op_type, fence.op_type) != ("ReorderInput", "MaxPool"):
        raise PlanError("ONNX Runtime reorders the channels between two blocks for one of them and not for the other")
    graph.node.remove(reorder)
    graph.node.remove(fence)
    return fence.output[0]


def _cut_after(graph: onnx.GraphProto) -> tuple[str, bool]:
    """Take the last fence away; the name of the value before it, and whether its channels are in blocks."""
    producers = {name: node for node in graph.node for name in node.output}
    last = producers["y"]
    graph.node.remove(last)
    if last.op_type != "ReorderOutput":
        return last.input[0], False
    fence = producers[last.input[0]]
    graph.node.remove(fence)
    return fence.input[0], True


def _promote(graph: onnx.GraphProto, block: CanonicalBlock, weights: Sequence[FloatArray]) -> tuple[WeightInput, ...]:
    """Take the weights out of the graph's constants; the inputs that they become."""
    fixed = [numpy_helper.to_array(onnx.TensorProto.FromString(data)).ravel() for data in block.constants]
    promoted, constants = [], []
    for tensor in graph.initializer:
        stored = numpy_helper.to_array(tensor)
        if stored.dtype != np.float32 or any(np.array_equal(stored.ravel(), each) for each in fixed):
            constants.append(tensor)
            continue
        found = recognised(stored, weights)
        if found is None:
            raise PlanError(
                "ONNX Runtime merges weights of a block with each other, so that those of a gate vector cannot be "
                "gathered; run the bundle at its operating points"
            )
        promoted.append(WeightInput(tensor.name, *found, stored.shape))
    del graph.initializer[:]
    graph.initializer.extend(constants)
    return tuple(promoted)
