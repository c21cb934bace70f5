"""A block without its weights: what is left of it when branches are absent, and when two blocks are the same graph.

The linker's passes rewrite a model with its weights in a few tens of milliseconds. A gate vector that is met for the
first time cannot wait so long; here a block is a list of nodes, which takes less than one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import onnx

__all__ = ["CanonicalBlock", "Node", "Skeleton"]

_KEEPS_SIGN = ("MaxPool", "AveragePool", "GlobalAveragePool", "Identity", "Flatten")


class Node(NamedTuple):
    """One operator; `group` is a convolution's, its other attributes are serialised."""

    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[bytes, ...]
    group: int | None

    def to_proto(self) -> onnx.NodeProto:
        node = onnx.helper.make_node(self.op_type, self.inputs, self.outputs)
        node.attribute.extend(onnx.AttributeProto.FromString(data) for data in self.attributes)
        if self.group is not None:
            node.attribute.append(onnx.helper.make_attribute("group", self.group))
        return node


@dataclass(frozen=True)
class CanonicalBlock:
    """A graph with names by position, so that equal graphs of different blocks are equal and hash alike.

    It reads ``x`` and the weights ``w0``, ``w1``, ... and gives ``y``.

    Attributes:
        weight_shapes: of ``w0``, ``w1``, ...
        constants: serialised tensors that no gate changes.
    """

    nodes: tuple[Node, ...]
    weight_shapes: tuple[tuple[int, ...], ...]
    constants: tuple[bytes, ...]
    opset: int

    @property
    def is_relu(self) -> bool:
        """A ReLU and nothing else."""
        return [node.op_type for node in self.nodes] == ["Relu"]

    def keeps_non_negative(self, *, given: bool) -> bool:
        """No value it gives is below zero, where `given` says so of what it reads."""
        producers = {name: node for node in self.nodes for name in node.outputs}
        name = "y"
        while (node := producers.get(name)) is not None and node.op_type in _KEEPS_SIGN:
            name = node.inputs[0]
        return given if name == "x" else node is not None and node.op_type == "Relu"


@dataclass(frozen=True)
class Skeleton:
    """The nodes of a block in the order in which they run.

    Attributes:
        weights: names of the tensors that are not stored here.
        constants: the others, serialised.
    """

    nodes: tuple[Node, ...]
    input: str
    output: str
    weights: frozenset[str]
    constants: Mapping[str, bytes]
    opset: int

    @classmethod
    def of(cls, model: onnx.ModelProto, weights: Collection[str]) -> Skeleton:
        """The skeleton of a block; its initializers are `weights`, or constants that stay with it."""
        graph = model.graph
        return cls(
            nodes=tuple(_node(node) for node in graph.node),
            input=graph.input[0].name,
            output=graph.output[0].name,
            weights=frozenset(weights),
            constants={t.name: t.SerializeToString() for t in graph.initializer if t.name not in weights},
            opset=next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        )

    def without(self, branches: Collection[str]) -> Skeleton | None:
        """The block without the values named, as `RemoveAbsentBranches` leaves it; None where nothing is left."""
        absent = frozenset(branches)
        same: dict[str, str] = {}  # the value of an addition whose other operand is absent
        nodes = []
        for node in self.nodes:
            inputs = node.inputs
            if same:
                inputs = tuple(same.get(name, name) for name in inputs)
            if node.op_type in ("Add", "Concat"):
                present = tuple(name for name in inputs if name not in absent)
                if len(present) == 1 and len(inputs) > 1:
                    same[node.outputs[0]] = present[0]
                    continue
                inputs = present or inputs
            nodes.append(node if inputs is node.inputs else node._replace(inputs=inputs))
        output = same.get(self.output, self.output)
        if output == self.input:
            return None
        return replace(self, nodes=_needed(nodes, output), output=output)

    def with_groups(self, weight: str, k: int, n: int) -> Skeleton:
        """The groups of the convolution that reads `weight`, shrunk to `k` of `n` components."""
        nodes = tuple(
            node._replace(group=(node.group or 1) * k // n) if weight in node.inputs else node for node in self.nodes
        )
        return replace(self, nodes=nodes)

    def read_weights(self) -> tuple[str, ...]:
        """Weights in the order in which the nodes read them."""
        return tuple(dict.fromkeys(name for node in self.nodes for name in node.inputs if name in self.weights))

    def canonical(self, shapes: Mapping[str, tuple[int, ...]]) -> CanonicalBlock:
        """The graph with names by position.

        Args:
            shapes: of the weights.
        """
        weights = self.read_weights()
        names = {"": "", self.input: "x", self.output: "y"} | {name: f"w{i}" for i, name in enumerate(weights)}
        constants: list[bytes] = []
        for name in dict.fromkeys(n for node in self.nodes for n in node.inputs if n in self.constants):
            names[name] = f"c{len(constants)}"
            tensor = onnx.TensorProto.FromString(self.constants[name])
            tensor.name = names[name]
            constants.append(tensor.SerializeToString())
        for i, name in enumerate(n for node in self.nodes for n in node.outputs):
            names.setdefault(name, f"v{i}")
        nodes = tuple(
            node._replace(
                inputs=tuple(names[name] for name in node.inputs), outputs=tuple(names[name] for name in node.outputs)
            )
            for node in self.nodes
        )
        return CanonicalBlock(nodes, tuple(shapes[name] for name in weights), tuple(constants), self.opset)


def _node(proto: onnx.NodeProto) -> Node:
    group = next((int(a.i) for a in proto.attribute if a.name == "group"), None)
    attributes = tuple(sorted(a.SerializeToString() for a in proto.attribute if a.name != "group"))
    return Node(proto.op_type, tuple(proto.input), tuple(proto.output), attributes, group)


def _needed(nodes: list[Node], output: str) -> tuple[Node, ...]:
    """The nodes that `output` depends on."""
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if not wanted.isdisjoint(node.outputs):
            wanted.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))
