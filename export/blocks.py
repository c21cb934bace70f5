"""From the blocks of a PyTorch network to full-width ONNX subgraphs, weights in one external file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import optimizer
from onnxscript.rewriter.rules.common import fuse_pad_into_conv_rule
from torch import Tensor, nn

from tnn_edge.bundle import BlockSpec, Slice, TensorSpec
from tnn_edge.nn.gated_channels import AxisSlice
from tnn_edge.nn.network import ThrottleableNetwork
from tnn_edge.nn.section import GatedBlock, Section

__all__ = ["OPSET", "WEIGHTS", "export_blocks", "to_onnx"]

OPSET = 18
WEIGHTS = "blocks/weights.bin"
_ALIGNMENT_BYTES = 64


def to_onnx(module: nn.Module, inputs: Mapping[str, Tensor], output: str) -> ir.Model:
    """Trace a module; normalisation stays a node of its own.

    Args:
        module: in evaluation mode.
        inputs: name -> example, in the order of the module's arguments.
        output: name of its output.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside torch.export on its own code
        program = torch.onnx.export(
            module, tuple(inputs.values()), dynamo=True, optimize=False, opset_version=OPSET,
            input_names=list(inputs), output_names=[output], verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model
    optimizer.fold_constants(model)
    fuse_pad_into_conv_rule.apply_to_model(model)
    _drop_zero_biases(model.graph)
    _flatten_by_name(model.graph)
    optimizer.remove_unused_nodes(model)
    ClearMetadataAndDocStringPass()(model)  # the exporter notes this machine's source paths
    return model


def _drop_zero_biases(graph: ir.Graph) -> None:
    """The exporter gives a convolution without bias a zero one, which slicing would have to know of."""
    for node in graph:
        if node.op_type == "Conv" and len(node.inputs) == 3 and node.inputs[2] is not None:
            bias = node.inputs[2].const_value
            if bias is not None and not bias.numpy().any():
                node.resize_inputs(2)


def _flatten_by_name(graph: ir.Graph) -> None:
    """The exporter writes flattening as a Reshape to constant sizes, which slicing would have to know of."""
    for node in list(graph):
        taken, given = node.inputs[0] if node.inputs else None, node.outputs[0]
        if node.op_type != "Reshape" or taken is None or taken.shape is None or given.shape is None:
            continue
        if len(given.shape) == 2 and len(taken.shape) > 2 and given.shape[0] == taken.shape[0]:
            flatten = ir.node("Flatten", [taken], attributes={"axis": 1}, name=node.name)
            graph.insert_after(node, flatten)
            flatten.outputs[0].name, given.name = given.name, f"{given.name}.reshaped"
            flatten.outputs[0].shape, flatten.outputs[0].type = given.shape, given.type
            given.replace_all_uses_with(flatten.outputs[0], replace_graph_outputs=True)
            graph.remove(node, safe=True)


def _sections(network: ThrottleableNetwork, x: Tensor) -> Iterator[tuple[str, Section, Tensor]]:
    for name, section in network.sections():
        yield name, section, x
        with torch.no_grad():
            x = section(x)


def _output_of(graph: ir.Graph, module: str) -> str:
    """The value that a layer of the traced block computes."""
    for node in graph:
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is not None and weight.name == f"{module}.weight":
            return str(node.outputs[0].name)
    raise AssertionError(f"the traced block has no layer {module}")


def _spec(name: str, file: str, section: Section, graph: ir.Graph) -> BlockSpec:
    tensors = {
        tensor: TensorSpec(slices=tuple(map(_slice, sliced.slices)), group_of=sliced.group_of)
        for tensor, sliced in section.sliced_tensors().items()
        if tensor in graph.initializers
    }
    spec = BlockSpec(name=name, file=file, input="x", output="y", tensors=tensors)
    if not isinstance(section, GatedBlock):
        return spec
    branches = {_output_of(graph, module): component for module, component in section.branches.items()}
    return spec.model_copy(update={"gate": section.gate, "branches": branches})


def _slice(axis_slice: AxisSlice) -> Slice:
    lying = axis_slice.components
    return Slice(
        axis=axis_slice.axis,
        gate=lying.gate,
        channels=lying.channels,
        ungated=lying.ungated,
        components=lying.n_components,
        scaled=axis_slice.scaled,
    )


def export_blocks(network: ThrottleableNetwork, image_size: int, folder: Path) -> list[BlockSpec]:
    """Write one subgraph per block, with stem and head, and their weights in one file.

    Args:
        network: in evaluation mode.
        image_size: height and width of the input.
        folder: the bundle's folder; ``blocks/`` is made in it.

    Returns:
        What the manifest says of each block, in the order in which they run.
    """
    (folder / WEIGHTS).parent.mkdir(parents=True)
    specs: list[BlockSpec] = []
    with (folder / WEIGHTS).open("wb") as weights:
        for name, section, x in _sections(network, torch.zeros(1, 3, image_size, image_size)):
            model = to_onnx(section, {"x": x}, "y")
            model.graph.name = name
            for value in model.graph.initializers.values():
                tensor = value.const_value
                if tensor is None or tensor.dtype != ir.DataType.FLOAT:
                    continue
                weights.write(b"\0" * (-weights.tell() % _ALIGNMENT_BYTES))
                data = np.ascontiguousarray(tensor.numpy(), dtype="<f4").tobytes()
                value.const_value = ir.ExternalTensor(
                    Path(WEIGHTS).name, weights.tell(), len(data), ir.DataType.FLOAT,
                    shape=ir.Shape(tensor.numpy().shape), name=str(value.name), base_dir=folder / "blocks",
                )  # fmt: skip
                weights.write(data)
            file = f"blocks/{len(specs):02d}_{name}.onnx"
            ir.save(model, folder / file)
            specs.append(_spec(name, file, section, model.graph))
    return specs
