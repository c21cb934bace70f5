"""One ONNX graph that holds several networks and runs the one that its second input names."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, helper

__all__ = ["choose_block", "choose_network"]

_IMAGE, _CHOICE, _LOGITS = "x", "point", "logits"
_LEAST_SHARED_BYTES = 1024
"""Below it a tensor may be a shape or an axis, which graph optimisations want to see as a constant."""


def choose_network(networks: Sequence[ModelProto], *, share_weights: bool) -> ModelProto:
    """A graph of inputs ``x`` and ``point`` (scalar, int64) that answers as ``networks[point]``.

    Args:
        networks: one input and one output each, all of the same shapes.
        share_weights: weights that several networks have are stored once, outside the branches. Without, each branch
            has its own, and ONNX Runtime can lay them out for its convolutions as in a graph without branches.
    """
    shared = _repeated(networks) if share_weights else {}
    branches = [
        _branch(network, prefix=f"n{i}/", reads=_IMAGE, writes=f"n{i}/{_LOGITS}", shared=shared)
        for i, network in enumerate(networks)
    ]
    nodes, constants = _choice(branches, selector=_CHOICE, writes=_LOGITS)
    return _model(nodes, [*constants, *shared.values()], networks[0], networks[0])


def choose_block(chains: Sequence[Mapping[str, str | None]], files: Mapping[str, ModelProto]) -> ModelProto:
    """The same of networks that are chains of blocks, with an ``If`` for each block that differs between them.

    Args:
        chains: for each network block -> file, in the order in which they run; None passes the input on.
        files: the blocks' models.
    """
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    blocks = list(chains[0])
    value = _IMAGE
    for block in blocks:
        writes = _LOGITS if block == blocks[-1] else f"{block}/output"
        variants = list(dict.fromkeys(chain[block] for chain in chains))
        branches = [
            _passing(f"{block}/v{i}/", value)
            if file is None
            else _branch(files[file], prefix=f"{block}/v{i}/", reads=value, writes=f"{block}/v{i}/output", shared={})
            for i, file in enumerate(variants)
        ]
        selector = f"{block}/variant"
        chosen, indices = _choice(branches, selector=selector, writes=writes)
        if len(branches) > 1:
            table = [variants.index(chain[block]) for chain in chains]
            indices.append(helper.make_tensor(f"{selector}s", TensorProto.INT64, [len(table)], table))
            nodes.append(helper.make_node("Gather", [f"{selector}s", _CHOICE], [selector]))
        nodes += chosen
        constants += indices
        value = writes
    (first, last) = (
        next(files[file] for chain in chains if (file := chain[block])) for block in (blocks[0], blocks[-1])
    )
    return _model(nodes, constants, first, last)


def _model(
    nodes: Iterable[NodeProto], constants: Iterable[TensorProto], first: ModelProto, last: ModelProto
) -> ModelProto:
    image, logits = ValueInfoProto(), ValueInfoProto()
    image.CopyFrom(first.graph.input[0])
    logits.CopyFrom(last.graph.output[0])
    image.name, logits.name = _IMAGE, _LOGITS
    choice = helper.make_tensor_value_info(_CHOICE, TensorProto.INT64, [])
    graph = helper.make_graph(list(nodes), "choice", [image, choice], [logits], list(constants))
    return helper.make_model(graph, opset_imports=first.opset_import, ir_version=first.ir_version)


def _choice(branches: Sequence[GraphProto], *, selector: str, writes: str) -> tuple[list[NodeProto], list[TensorProto]]:
    """Nested ``If`` nodes over branches by the number in `selector`, and the constants beside them."""
    *firsts, otherwise = branches
    if not firsts:
        passed_on = helper.make_node("Identity", [otherwise.output[0].name], [writes])
        return [*otherwise.node, passed_on], list(otherwise.initializer)
    nodes: list[NodeProto] = []
    constants: list[TensorProto] = []
    for i, branch in reversed(list(enumerate(firsts))):
        output = writes if i == 0 else f"{writes}/else{i}"
        constant, is_chosen = f"{writes}/is{i}", f"{writes}/chosen{i}"
        constants = [helper.make_tensor(constant, TensorProto.INT64, [], [i])]
        nodes = [
            helper.make_node("Equal", [selector, constant], [is_chosen]),
            helper.make_node("If", [is_chosen], [output], then_branch=branch, else_branch=otherwise),
        ]
        given = _either(output, branch.output[0], otherwise.output[0])
        otherwise = helper.make_graph(nodes, f"{writes}/from{i}", [], [given], constants)
    return nodes, constants


def _either(name: str, one: ValueInfoProto, other: ValueInfoProto) -> ValueInfoProto:
    """A value that is the one or the other: of the size that both have, unknown where they differ."""
    types = [value.type.tensor_type for value in (one, other)]
    dims: list[int | None] | None = None
    if all(known.HasField("shape") for known in types):
        pairs = zip(*(known.shape.dim for known in types), strict=True)
        dims = [a.dim_value or None if a.dim_value == b.dim_value else None for a, b in pairs]
    return helper.make_tensor_value_info(name, types[0].elem_type, dims)


def _passing(prefix: str, value: str) -> GraphProto:
    output = f"{prefix}output"
    given = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node("Identity", [value], [output])], f"{prefix}graph", [], [given])


def _branch(
    model: ModelProto, *, prefix: str, reads: str, writes: str, shared: Mapping[bytes, TensorProto]
) -> GraphProto:
    """A model's graph as the branch of an ``If``: it reads a value around it, and its names are its own."""
    graph = model.graph
    names = {"": "", graph.input[0].name: reads, graph.output[0].name: writes}
    weights = []
    for tensor in graph.initializer:
        found = shared.get(_digest(tensor))
        if found is not None:
            names[tensor.name] = found.name
            continue
        own = TensorProto()
        own.CopyFrom(tensor)
        own.name = names[tensor.name] = f"{prefix}{tensor.name}"
        weights.append(own)
    nodes = []
    for node in graph.node:
        assert all(attribute.type != AttributeProto.GRAPH for attribute in node.attribute)
        copy = NodeProto()
        copy.CopyFrom(node)
        copy.name = node.name and f"{prefix}{node.name}"
        copy.input[:] = [names.setdefault(name, f"{prefix}{name}") for name in node.input]
        copy.output[:] = [names.setdefault(name, f"{prefix}{name}") for name in node.output]
        nodes.append(copy)
    given = ValueInfoProto()
    given.CopyFrom(graph.output[0])
    given.name = writes
    return helper.make_graph(nodes, f"{prefix}graph", [], [given], weights)


def _repeated(models: Sequence[ModelProto]) -> dict[bytes, TensorProto]:
    """Digest -> tensor, of those that occur more than once."""
    tensors = {_digest(tensor): tensor for model in models for tensor in model.graph.initializer}
    counts = Counter(_digest(tensor) for model in models for tensor in model.graph.initializer)
    shared = {}
    for digest, count in counts.items():
        tensor = TensorProto()
        tensor.CopyFrom(tensors[digest])
        tensor.name = f"shared/{digest.hex()[:16]}"
        if count > 1 and onnx.numpy_helper.to_array(tensor).nbytes >= _LEAST_SHARED_BYTES:
            shared[digest] = tensor
    return shared


def _digest(tensor: TensorProto) -> bytes:
    array = onnx.numpy_helper.to_array(tensor)
    return hashlib.sha256(f"{array.dtype} {array.shape}".encode() + array.tobytes()).digest()
