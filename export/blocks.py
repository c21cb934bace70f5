"""From the blocks of a PyTorch network to full-width ONNX subgraphs, weights in one external file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx_ir as ir
import torch
from onnx_ir.passes.common import ClearMetadataAndDocStringPass
from onnxscript import optimizer
from torch import Tensor, nn

from tnn_edge.bundle import BlockSpec, Slice, TensorSpec
from tnn_edge.nn.network import GatedBlock, ThrottleableNetwork

__all__ = ["OPSET", "WEIGHTS", "export_blocks", "to_onnx"]

OPSET = 18
WEIGHTS = "blocks/weights.bin"
_ALIGNMENT_BYTES = 64


def to_onnx(module: nn.Module, x: Tensor) -> ir.Model:
    """Trace a module with one input ``x`` and one output ``y``; normalisation stays a node of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # raised inside torch.export on its own code
        program = torch.onnx.export(
            module, (x,), dynamo=True, optimize=False, opset_version=OPSET, input_names=["x"], output_names=["y"],
            verbose=False,
        )  # fmt: skip
    assert program is not None
    model = program.model
    optimizer.fold_constants(model)
    _drop_zero_biases(model.graph)
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


def _modules(network: ThrottleableNetwork, x: Tensor) -> Iterator[tuple[str, nn.Module, Tensor]]:
    for name, module in [("stem", network.stem), *network.blocks.items(), ("head", network.head)]:
        yield name, module, x
        with torch.no_grad():
            x = module(x)


def _branch_value(graph: ir.Graph, norm: str) -> str:
    for node in graph:
        scale = node.inputs[1] if node.op_type == "BatchNormalization" else None
        if scale is not None and scale.name == f"{norm}.weight":
            return str(node.outputs[0].name)
    raise AssertionError(f"the traced block has no normalisation {norm}")


def _spec(name: str, file: str, module: nn.Module, graph: ir.Graph) -> BlockSpec:
    if not isinstance(module, GatedBlock):
        return BlockSpec(name=name, file=file, input="x", output="y")
    tensors = {
        tensor: TensorSpec(
            slices=(Slice(axis=sliced.axis, gate=name, channels=sliced.channels),),
            scaled_by=name if sliced.scaled else None,
            group_of=name if sliced.groups else None,
        )
        for tensor, sliced in module.sliced_tensors().items()
    }
    branch = _branch_value(graph, module.branch_output)
    return BlockSpec(name=name, file=file, input="x", output="y", gate=name, branch=branch, tensors=tensors)


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
        for name, module, x in _modules(network, torch.zeros(1, 3, image_size, image_size)):
            model = to_onnx(module, x)
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
            specs.append(_spec(name, file, module, model.graph))
    return specs
