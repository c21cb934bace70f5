"""Put QuantizeLinear and DequantizeLinear where a graph shall compute in 8 bits.

The arithmetic stays that of the float graph with rounding added, so any runtime gives about the same; ONNX Runtime
fuses each operator with the pairs around it into one on integers. ONNX Runtime's own quantiser does the same, but
imports names of onnx that come and go between releases: on a device the two are whatever the vendor built. Tests hold
this pass against it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from tnn_edge.bundle.quantisation import WeightBits
from tnn_edge.errors import BundleError
from tnn_edge.runtime.linking.passes.constants import constant
from tnn_edge.runtime.linking.passes.round_weights import (
    LARGEST_LEVEL,
    LEAST_SCALE,
    Levels,
    channel_axis,
    levels_of,
)

__all__ = ["InsertQuantisation", "quantised_values"]

Doubles = npt.NDArray[np.float64]

_WEIGHTED: Final = frozenset({"Conv", "Gemm"})
_PLAIN: Final = frozenset({"Add", "AveragePool", "Concat", "GlobalAveragePool", "MaxPool"})
_RANGE_KEEPING: Final = frozenset({"Flatten", "MaxPool", "Reshape"})
"""What comes out was among what went in: one scale for both, so that the integers pass through as they are."""
_CLIPPING: Final = frozenset({"Clip", "Relu"})
"""Follow an operator without rounding between: the lower end of the 8 bits does their work."""
_MOST_BIAS: Final = 2.0**30
_SAME_LEVEL: Final = 1e-2
"""Far above what float32 adds to a level, far below half a level."""
_LARGEST_CONSTANT: Final = 1e9


class InsertQuantisation(ir.passes.InPlacePass):
    """Quantise convolutions, matrix products, sums, concatenations and pools; the graph's outputs stay float.

    Activations are uint8 with a zero point, one scale for each value; weights int8, symmetric, one scale for each
    output channel, on the levels that `RoundWeights` chose where it did; biases int32.

    Args:
        ranges: name of a value -> least and largest number that its 8 bits shall tell apart, for each of
            `quantised_values`.
        weight_bits: of the int8. With 7, two products of a uint8 and an int8 fit in 16 bits.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]], weight_bits: WeightBits) -> None:
        super().__init__()
        self.ranges = ranges
        self.weight_bits: WeightBits = weight_bits

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        graph = model.graph
        ranges = {value: self.ranges[str(_range_source(value).name)] for value in _to_quantise(graph)}
        scales = {}
        for value, (low, high) in ranges.items():
            scale, zero_point = _scale_and_zero_point(low, high)
            dequantised = _round_trip(graph, value, scale, zero_point)
            scales[dequantised] = float(scale)
        for node in list(graph):
            if node.op_type in _WEIGHTED and node.inputs[0] in scales and _is_integer(node):
                self._quantise_constants(graph, node, scales[node.inputs[0]])
        return ir.passes.PassResult(model, bool(ranges))

    def _quantise_constants(self, graph: ir.Graph, node: ir.Node, input_scale: float) -> None:
        weight = _finite(node.inputs[1])
        bias = _finite(node.inputs[2]) if len(node.inputs) > 2 else None
        axis = channel_axis(node)
        others = tuple(i for i in range(weight.ndim) if i != axis)
        level = LARGEST_LEVEL[self.weight_bits]
        scale = np.maximum(_scale(weight, levels_of(node.inputs[1]), others, level), LEAST_SCALE)
        if bias is not None:  # a channel of almost no weight, whose bias would not fit in 32 bits
            scale = np.maximum(scale, np.abs(bias) / (input_scale * _MOST_BIAS))
        scale = scale.astype(np.float32).astype(np.float64)
        levels = np.rint(weight / np.expand_dims(scale, others)).clip(-level, level).astype(np.int8)
        _dequantise(graph, node, 1, levels, scale, axis)
        if bias is not None:
            product = input_scale * scale
            _dequantise(graph, node, 2, np.rint(bias / product).astype(np.int32), product, 0)


def quantised_values(graph: ir.Graph) -> list[str]:
    """Names of the values whose ranges `InsertQuantisation` asks for, in the order in which they are computed."""
    return list(dict.fromkeys(str(_range_source(value).name) for value in _to_quantise(graph)))


def _range_source(value: ir.Value) -> ir.Value:
    """The value that has the same range, behind operators that only move numbers."""
    producer = value.producer()
    while producer is not None and producer.op_type in _RANGE_KEEPING and producer.inputs[0] is not None:
        value = producer.inputs[0]
        producer = value.producer()
    return value


def _to_quantise(graph: ir.Graph) -> list[ir.Value]:
    found: dict[ir.Value, None] = {}
    for node in graph:
        if _is_integer(node):
            found.update(dict.fromkeys(_activations(node)))
            found[_behind_clipping(node.outputs[0])] = None
    computed = [*graph.inputs, *(value for node in graph for value in node.outputs)]
    return [value for value in computed if value in found and not value.is_graph_output()]


def _is_integer(node: ir.Node) -> bool:
    """Whether the operator has a form on integers, of constants and attributes that this form allows."""
    if node.op_type in _WEIGHTED:
        plain_gemm = all(node.attributes.get_float(name, 1.0) == 1.0 for name in ("alpha", "beta"))
        is_plain = plain_gemm and node.attributes.get_int("transA", 0) == 0
        held = [value is not None and value.const_value is not None for value in node.inputs[1:]]
        return is_plain and all(held) and all(_is_bias(value) for value in node.inputs[2:])
    return node.op_type in _PLAIN and all(v is not None and v.const_value is None for v in node.inputs)


def _is_bias(value: ir.Value | None) -> bool:
    return constant(value).ndim == 1


def _activations(node: ir.Node) -> Iterator[ir.Value]:
    for value in node.inputs[:1] if node.op_type in _WEIGHTED else node.inputs:
        if value is not None:
            yield value


def _behind_clipping(value: ir.Value) -> ir.Value:
    uses = value.uses()
    if len(uses) == 1 and not value.is_graph_output():
        reader = next(iter(uses)).node
        if reader.op_type in _CLIPPING and reader.inputs[0] is value:
            return reader.outputs[0]
    return value


def _scale(weight: Doubles, levels: Levels | None, others: tuple[int, ...], largest: int) -> Doubles:
    """Of each output channel: what its levels are times, or from its largest weight where no one number is."""
    reach: Doubles = np.abs(weight).max(axis=others)
    own = reach / largest
    if levels is None:
        return own
    known = reach / np.maximum(np.abs(levels).max(axis=others), 1)
    steps = weight / np.expand_dims(np.maximum(known, LEAST_SCALE), others)
    off_level = np.abs(np.abs(steps) - np.abs(levels)).max(axis=others)
    scale: Doubles = np.where(off_level < _SAME_LEVEL, known, own)
    return scale


def _finite(value: ir.Value | None) -> Doubles:
    array = constant(value).astype(np.float64)
    if not (np.abs(array) <= _LARGEST_CONSTANT).all():
        name = None if value is None else value.name
        raise BundleError(f"{name} holds weights that are not finite, or beyond {_LARGEST_CONSTANT:g}: no 8 bits fit")
    return array


def _scale_and_zero_point(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Of 256 levels from low to high, one of which is zero."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, LEAST_SCALE))
    return scale, np.uint8(min(round(-low / float(scale)), 255))


def _round_trip(graph: ir.Graph, value: ir.Value, scale: np.float32, zero_point: np.uint8) -> ir.Value:
    """Let every reader read the value as rounded to 8 bits."""
    name = str(value.name)
    constants = [_add(graph, f"{name}.scale", np.array(scale)), _add(graph, f"{name}.zero_point", np.array(zero_point))]
    down = ir.node("QuantizeLinear", [value, *constants], name=f"{name}.quantise")
    up = ir.node("DequantizeLinear", [down.outputs[0], *constants], name=f"{name}.dequantise")
    down.outputs[0].name, up.outputs[0].name = f"{name}.uint8", f"{name}.rounded"
    value.replace_all_uses_with(up.outputs[0])
    down.replace_input_with(0, value)
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [down, up])
    else:
        graph.insert_after(producer, [down, up])
    return up.outputs[0]


def _dequantise(
    graph: ir.Graph, node: ir.Node, index: int, array: npt.NDArray[np.int8] | npt.NDArray[np.int32],
    scale: Doubles, axis: int,
) -> None:  # fmt: skip
    """Replace a constant by integers and a scale for each entry of an axis."""
    old = node.inputs[index]
    assert old is not None
    name = str(old.name)
    graph.initializers.pop(name)
    constants = [
        _add(graph, name, array),
        _add(graph, f"{name}.scale", scale.astype(np.float32)),
        _add(graph, f"{name}.zero_point", np.zeros(scale.shape, array.dtype)),
    ]
    up = ir.node("DequantizeLinear", constants, attributes={"axis": axis}, name=f"{name}.dequantise")
    up.outputs[0].name = f"{name}.rounded"
    node.replace_input_with(index, up.outputs[0])
    graph.insert_before(node, up)


def _add(graph: ir.Graph, name: str, array: npt.NDArray[np.int8 | np.uint8 | np.int32 | np.float32]) -> ir.Value:
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    return value
