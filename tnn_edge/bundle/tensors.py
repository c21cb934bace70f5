"""What a manifest and its statistics say of the tensors in a block, compared with the tensors."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import onnx

from tnn_edge.bundle.manifest import BlockSpec, TensorSpec
from tnn_edge.bundle.reading import STATISTICS, Bundle
from tnn_edge.errors import BundleError

__all__ = ["check_statistics", "check_tensors", "norm_statistics"]

_REWRITTEN = ("Conv", "BatchNormalization")
"""Operators whose constants the linker changes in place."""


def check_tensors(graph: onnx.GraphProto, block: BlockSpec, gates: Mapping[str, int], path: Path) -> None:
    """Check a block's constants against its slice map.

    Args:
        graph: of the block.
        block: its entry in the manifest.
        gates: gate -> number of components.
        path: of the block, for the error.

    Raises:
        BundleError: two nodes read one constant that linking changes, or a slice does not fit its tensor.
    """
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    if missing := sorted(set(block.tensors) - set(dims)):
        raise BundleError(f"{path}: the slice map names {', '.join(missing)}, which the block does not hold")
    readers = Counter(name for node in graph.node for name in node.input)
    rewritten = {name for node in graph.node if node.op_type in _REWRITTEN for name in node.input} | set(block.tensors)
    for name in sorted(rewritten & set(dims)):
        if readers[name] > 1:
            raise BundleError(
                f"{path}: tensor {name} is read {readers[name]} times; linking changes it for one reader, "
                "give each a tensor of its own"
            )
    groups = {node.input[1]: _group(node) for node in graph.node if node.op_type == "Conv"}
    for name, spec in block.tensors.items():
        _check_slices(name, spec, dims[name], gates, path)
        if spec.group_of is not None and (name not in groups or groups[name] % gates[spec.group_of] != 0):
            raise BundleError(
                f"{path}: tensor {name} must be the weight of a convolution whose groups are a multiple of the "
                f"{gates[spec.group_of]} components of {spec.group_of}"
            )


def _check_slices(name: str, spec: TensorSpec, dims: list[int], gates: Mapping[str, int], path: Path) -> None:
    axes = [each.axis for each in spec.slices]
    if len(set(axes)) < len(axes):
        raise BundleError(f"{path}: the slice map slices an axis of {name} twice")
    for each in spec.slices:
        n = gates[each.gate] if each.components is None else each.components
        if n > gates[each.gate]:
            raise BundleError(
                f"{path}: tensor {name} reads {n} components of {each.gate}, which has {gates[each.gate]}"
            )
        size = each.ungated + n * each.channels
        if each.axis >= len(dims) or dims[each.axis] != size:
            raise BundleError(
                f"{path}: tensor {name} of shape {dims} has not {size} entries on axis {each.axis}: "
                f"{each.ungated} ungated and {each.channels} for each of {n} components of {each.gate}"
            )


def _group(conv: onnx.NodeProto) -> int:
    return next((int(attribute.i) for attribute in conv.attribute if attribute.name == "group"), 1)


def norm_statistics(graph: onnx.GraphProto, block: BlockSpec) -> dict[str, tuple[int, float]]:
    """``<block>/<running mean or variance>`` -> channels and least value, for each normalisation of a block."""
    dims = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    return {
        f"{block.name}/{name}": (dims[name][0], least)
        for node in graph.node
        if node.op_type == "BatchNormalization"
        for name, least in zip(node.input[3:5], (-math.inf, 0.0), strict=False)
        if len(dims.get(name, [])) == 1
    }


def check_statistics(bundle: Bundle, norms: Mapping[str, tuple[int, float]]) -> None:
    """Check the statistics of the operating points against the normalisations of all blocks.

    Raises:
        BundleError: statistics for no normalisation, of another width, with a negative variance, or missing.
    """
    path = bundle.path / STATISTICS
    for name, values in bundle.statistics.items():
        if name not in norms:
            raise BundleError(f"{path}: {name} names no running mean or variance of a normalisation in the blocks")
        channels, least = norms[name]
        if values.shape[1] != channels:
            raise BundleError(f"{path}: {name} has {values.shape[1]} channels, its normalisation {channels}")
        if (values < least).any():
            raise BundleError(f"{path}: {name} holds {values.min():g}, a variance is at least 0")
    is_used = any(point.statistics is not None for point in bundle.manifest.operating_points)
    if is_used and (missing := sorted(set(norms) - set(bundle.statistics))):
        raise BundleError(f"{path}: {', '.join(missing[:3])} {'is' if len(missing) == 1 else 'are'} missing")
