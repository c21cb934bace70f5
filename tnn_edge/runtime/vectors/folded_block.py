"""The full-width weights of a block, normalisation folded, from which those of any gate vector are gathered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from tnn_edge.bundle import BlockSpec, Bundle, Slice
from tnn_edge.runtime.linking.linker import absent_branches
from tnn_edge.runtime.linking.passes import FoldNormalisation
from tnn_edge.runtime.linking.passes.constants import constant, set_constant
from tnn_edge.runtime.vectors.skeleton import CanonicalBlock, Skeleton
from tnn_edge.runtime.vectors.weight_layout import FloatArray, Layout, aligned

__all__ = ["FoldedBlock", "Variant", "gates_read_by"]

_READS_WEIGHTS = ("BatchNormalization", "Conv", "Gemm", "MatMul")


class Variant(NamedTuple):
    """What a gate vector leaves of a block.

    Attributes:
        block: the graph, None where the block passes its input on.
        weights: names of the graph's weights, in its order.
    """

    block: CanonicalBlock | None
    weights: tuple[str, ...]


class FoldedBlock:
    """One block with the statistics of one operating point.

    Its weights are those of convolutions, matrix products and normalisations, and whatever the slice map names; other
    constants stay in its graph.
    """

    def __init__(self, bundle: Bundle, spec: BlockSpec, statistics: Mapping[str, FloatArray]) -> None:
        """Fold a block.

        Args:
            bundle: that the block belongs to.
            spec: the block's entry in the manifest.
            statistics: as `FoldNormalisation` takes them.
        """
        self.spec = spec
        model = ir.load(bundle.path / spec.file)
        FoldNormalisation(statistics)(model)
        _reduce_normalisation(model)
        # copies: a file that is overwritten while it is mapped ends the process
        self._full = {name: constant(model.graph.initializers[name]).copy() for name in _weights(model, spec)}
        self._skeleton = Skeleton.of(_without_data(model, self._full), self._full)
        self._laid_out: dict[tuple[str, Layout], FloatArray] = {}
        self._variants: dict[tuple[object, ...], Variant] = {}
        n_components = {gate.name: len(gate.weights) for gate in bundle.manifest.gates}
        self._counts_suffice = _counts_suffice(spec, n_components)

    @property
    def nbytes(self) -> int:
        """Of the weights, however they lie."""
        return sum(array.nbytes for arrays in (self._full, self._laid_out) for array in arrays.values())

    def variant(self, gates: Mapping[str, str]) -> Variant:
        """What is left of the block under a gate vector.

        Raises:
            ValueError: nothing would remain of a weight.
        """
        if not self._counts_suffice:  # as many variants as vectors: not worth keeping
            return self._variant(gates)
        key = tuple(gates[name].count("1") for name in gates_read_by(self.spec))
        found = self._variants.get(key)
        if found is None:
            found = self._variants[key] = self._variant(gates)
        return found

    def _variant(self, gates: Mapping[str, str]) -> Variant:
        skeleton = self._skeleton.without(absent_branches(self.spec, gates))
        if skeleton is None:
            return Variant(None, ())
        for name, tensor in self.spec.tensors.items():
            if tensor.group_of is not None:
                bits = gates[tensor.group_of]
                skeleton = skeleton.with_groups(name, bits.count("1"), len(bits))
        names = skeleton.read_weights()
        return Variant(skeleton.canonical({name: self._shape(name, gates) for name in names}), names)

    def _shape(self, name: str, gates: Mapping[str, str]) -> tuple[int, ...]:
        shape = list(self._full[name].shape)
        for each in self._slices(name):
            bits = gates[each.gate][: each.components]
            shape[each.axis] = each.ungated + bits.count("1") * each.channels
            if not shape[each.axis]:
                raise ValueError(f"{name} of {self.spec.name} needs a component of {each.gate} that is on")
        return tuple(shape)

    def gathered(self, name: str, gates: Mapping[str, str], layout: Layout) -> FloatArray:
        """A weight under a gate vector, laid out: the values that `SliceComponents` gives.

        Its shape is the layout's; where the gates leave everything on, it is not a copy.
        """
        slices = [each for each in self._slices(name) if "0" in gates[each.gate][: each.components]]
        if not all(_is_whole(each, layout.blocks[each.axis]) for each in slices if each.axis < 2):
            return layout.lay_out(_taken(self._full[name], slices, gates, Layout()))
        return _taken(self._full_width(name, layout), slices, gates, layout)

    def _slices(self, name: str) -> tuple[Slice, ...]:
        tensor = self.spec.tensors.get(name)
        return () if tensor is None else tensor.slices

    def _full_width(self, name: str, layout: Layout) -> FloatArray:
        found = self._laid_out.get((name, layout))
        if found is None:
            array = layout.lay_out(self._full[name])
            found = aligned(array.shape)
            np.copyto(found, array)
            self._laid_out[name, layout] = found
        return found


def gates_read_by(spec: BlockSpec) -> tuple[str, ...]:
    """Gates that a block's tensors, groups and branches depend on."""
    names = dict.fromkeys(each.gate for tensor in spec.tensors.values() for each in tensor.slices)
    names |= dict.fromkeys(tensor.group_of for tensor in spec.tensors.values() if tensor.group_of is not None)
    return tuple(names | ({} if spec.gate is None else {spec.gate: None}))


def _counts_suffice(spec: BlockSpec, n_components: Mapping[str, int]) -> bool:
    """What is left of the block depends on how many components are on, not on which."""
    slices = [each for tensor in spec.tensors.values() for each in tensor.slices]
    return all(component is None for component in spec.branches.values()) and all(
        each.components in (None, n_components[each.gate]) for each in slices
    )


def _is_whole(each: Slice, block: int) -> bool:
    """A component begins and ends where a block does."""
    return each.ungated % block == 0 and each.channels % block == 0


def _taken(full: FloatArray, slices: list[Slice], gates: Mapping[str, str], layout: Layout) -> FloatArray:
    array = full
    for each in slices:
        bits = gates[each.gate][: each.components]
        block = layout.blocks[each.axis] if each.axis < 2 else 1
        kept, ungated, unit = _kept(each.ungated // block, each.channels // block, bits)
        before, after = array.shape[: each.axis], array.shape[each.axis + 1 :]
        out = aligned((*before, len(kept), unit, *after))
        # "raise" would go through a buffer
        np.take(array.reshape(*before, -1, unit, *after), kept, axis=each.axis, out=out, mode="clip")
        if each.scaled and "1" in bits:
            gated = out[(slice(None),) * each.axis + (slice(ungated, None),)]
            np.multiply(gated, np.float32(len(bits) / bits.count("1")), out=gated)
        array = out.reshape(*before, -1, *after)
    return array


@lru_cache(maxsize=256)
def _kept(ungated: int, channels: int, bits: str) -> tuple[npt.NDArray[np.intp], int, int]:
    """What stays of an axis: indices of its parts, how many of them are not gated, and the size of a part."""
    unit = math.gcd(ungated, channels)
    ungated, channels = ungated // unit, channels // unit
    on = np.flatnonzero(np.frombuffer(bits.encode(), dtype=np.uint8) == ord("1"))
    gated = np.add.outer(on * channels, np.arange(channels)).ravel() + ungated
    return np.concatenate([np.arange(ungated), gated]).astype(np.intp), ungated, unit


def _weights(model: ir.Model, spec: BlockSpec) -> list[str]:
    names = dict.fromkeys(spec.tensors)
    for node in model.graph:
        if node.op_type in _READS_WEIGHTS:
            names |= dict.fromkeys(value.name or "" for value in node.inputs if value is not None)
    return [name for name in names if name in model.graph.initializers]


def _reduce_normalisation(model: ir.Model) -> None:
    """Give what is left of normalisation mean 0 and variance 1, so that optimising it only moves its values."""
    for node in model.graph:
        if node.op_type != "BatchNormalization":
            continue
        gamma, beta, mean, var = (constant(value).astype(np.float64) for value in node.inputs[1:5])
        factor = gamma / np.sqrt(var + node.attributes.get_float("epsilon", 1e-5))
        reduced = (factor, beta - mean * factor, np.zeros_like(mean), np.ones_like(var))
        for value, array in zip(node.inputs[1:5], reduced, strict=True):
            assert value is not None
            set_constant(value, array.astype(np.float32))
        node.attributes["epsilon"] = ir.AttrFloat32("epsilon", 0.0)


def _without_data(model: ir.Model, weights: Mapping[str, FloatArray]) -> onnx.ModelProto:
    for name in weights:
        set_constant(model.graph.initializers[name], np.zeros(0, dtype=np.float32))
    return ir.to_proto(ir.external_data.load_to_model(model))
