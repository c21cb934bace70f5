"""The parts of a block that runs any gate vector: weights gathered and laid out, structures told apart, sessions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest

from tests.device.graphs import drawn, model_of
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import PlanError
from tnn_edge.runtime.linking.linker import link_block
from tnn_edge.runtime.linking.passes import RemoveAbsentBranches
from tnn_edge.runtime.linking.passes.constants import constant
from tnn_edge.runtime.providers import SessionSettings
from tnn_edge.runtime.vectors.block_session import BlockSession, Border, WeightInput
from tnn_edge.runtime.vectors.folded_block import FoldedBlock
from tnn_edge.runtime.vectors.skeleton import CanonicalBlock, Skeleton
from tnn_edge.runtime.vectors.weight_layout import Layout, fitted, recognised

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def widthwise(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.mark.parametrize("bits", ["1111", "0110", "1000", "0111"])
def test_gathered_weights_are_the_linked_ones_bit_for_bit(widthwise: Bundle, bits: str) -> None:
    gates = {gate.name: bits for gate in widthwise.manifest.gates}
    row = widthwise.manifest.statistics_for(gates)
    for spec in widthwise.manifest.blocks:
        prefix = f"{spec.name}/"
        stored = {n.removeprefix(prefix): v for n, v in widthwise.statistics.items() if n.startswith(prefix)}
        statistics = {} if row is None else {n: v[row] for n, v in stored.items()}
        folded = FoldedBlock(widthwise, spec, statistics)
        model = link_block(widthwise, spec, gates)
        assert model is not None
        variant = folded.variant(gates)
        assert set(variant.weights) <= set(model.graph.initializers)
        for name in variant.weights:
            expected = constant(model.graph.initializers[name])
            for layout in (Layout(), Layout(8, 8), Layout(8, 1), Layout(4, 4)):
                if expected.ndim == 4 or layout == Layout():
                    got = folded.gathered(name, gates, layout)
                    assert np.array_equal(got.ravel(), layout.lay_out(expected).ravel()), (name, layout)


@pytest.mark.parametrize("shape", [(8, 8, 3, 3), (16, 24, 1, 1), (12, 8, 2, 1), (5, 3, 3, 3)])
@pytest.mark.parametrize("layout", [Layout(8, 8), Layout(8, 1), Layout(4, 4)])
def test_a_blocked_layout_puts_every_element_where_its_definition_says(shape: Sequence[int], layout: Layout) -> None:
    weight = drawn(0, *shape)
    laid_out = layout.lay_out(weight)
    for o, i, h, w in itertools.product(*map(range, laid_out_sizes(laid_out))):
        is_inside = o < shape[0] and i < shape[1]
        place = o // layout.outputs, i // layout.inputs, h, w, i % layout.inputs, o % layout.outputs
        assert laid_out[place] == (weight[o, i, h, w] if is_inside else 0)


def laid_out_sizes(laid_out: Array) -> tuple[int, int, int, int]:
    o, i, h, w, i_block, o_block = laid_out.shape
    return o * o_block, i * i_block, h, w


@pytest.mark.parametrize("layout", [Layout(), Layout(8, 8), Layout(8, 1), Layout(16, 16)])
def test_a_stored_weight_is_recognised_among_others(layout: Layout) -> None:
    weights = [drawn(0, 16, 16, 3, 3), drawn(1, 16, 16, 3, 3), drawn(2, 16)]
    assert recognised(layout.lay_out(weights[1]).reshape(16, 16, 3, 3), weights) == (1, layout)


def test_a_bias_with_zeros_behind_it_is_recognised_and_a_changed_one_is_not() -> None:
    weights = [drawn(0, 16, 16, 3, 3), drawn(2, 12)]
    stored = np.concatenate([weights[1], np.zeros(4, np.float32)])
    assert recognised(stored, weights) == (1, Layout())
    assert recognised(stored * 2, weights) is None


DENSE = """
dense (float[1, 4, 6, 6] x) => (float[1, n, 6, 6] y) {
    a = Conv(x, wa)
    xa = Concat<axis = 1>(x, a)
    ra = Relu(xa)
    b = Conv(ra, wb)
    xab = Concat<axis = 1>(x, a, b)
    s = Conv(xab, ws)
    t = Conv(xab, wt)
    y = Add(s, t)
}
"""
DENSE_WEIGHTS = {"wa": (2, 4, 1, 1), "wb": (2, 6, 1, 1), "ws": (3, 8, 1, 1), "wt": (3, 8, 1, 1)}


@pytest.mark.parametrize("absent", [(), ("a",), ("b",), ("a", "b"), ("s",), ("t", "a"), ("b", "s")])
def test_a_skeleton_loses_the_branches_that_the_linker_removes(absent: tuple[str, ...]) -> None:
    proto = ir.to_proto(model_of(DENSE, {n: drawn(i, *s) for i, (n, s) in enumerate(DENSE_WEIGHTS.items())}))
    left = Skeleton.of(proto, DENSE_WEIGHTS).without(absent)
    model = ir.from_proto(proto)
    RemoveAbsentBranches(absent)(model)
    assert left is not None
    assert [n.op_type for n in left.nodes] == [n.op_type for n in model.graph]
    assert [n.inputs for n in left.nodes] == [tuple(v.name for v in n.inputs if v) for n in model.graph]
    assert left.output == model.graph.outputs[0].name


def test_a_skeleton_of_which_nothing_is_left_is_none() -> None:
    proto = ir.to_proto(model_of("g (float[1, 4, 6, 6] x) => (float[1, n, 6, 6] y) { a = Relu(x) y = Add(x, a) }"))
    skeleton = Skeleton.of(proto, ())
    assert skeleton.without(["a"]) is None
    assert skeleton.without([]) is not None


def canonical(text: str, shapes: Mapping[str, tuple[int, ...]]) -> CanonicalBlock:
    constants = {name: drawn(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    return Skeleton.of(ir.to_proto(model_of(text, constants)), shapes).canonical(shapes)


def test_equal_graphs_with_other_names_are_one_structure() -> None:
    one = canonical(
        "g (float[1, 4, 6, 6] x) => (float[1, n, 6, 6] y) { a = Conv(x, w) y = Relu(a) }", {"w": (2, 4, 1, 1)}
    )
    text = "g (float[1, 4, 6, 6] image) => (float[1, n, 6, 6] out) { b = Conv(image, k) out = Relu(b) }"
    assert canonical(text, {"k": (2, 4, 1, 1)}) == one
    assert canonical(text, {"k": (3, 4, 1, 1)}) != one
    assert canonical(text.replace("Conv(", "Conv<strides = [2, 2]>("), {"k": (2, 4, 1, 1)}) != one
    assert canonical(text.replace("Conv(", "Conv<group = 2>("), {"k": (2, 4, 1, 1)}) != one


def test_weights_that_onnx_runtime_merges_are_an_error_and_no_wrong_answer() -> None:
    scaled = "g (float[1, 8, 6, 6] x) => (float[1, n, 6, 6] y) { a = Conv(x, w) y = Mul(a, s) }"
    block = canonical(scaled, {"w": (8, 8, 1, 1), "s": (1, 8, 1, 1)})
    with pytest.raises(PlanError, match="ONNX Runtime merges weights of a block with each other, so that those of a"):
        BlockSession(block, Border((1, 8, 6, 6), is_blocked=False), SessionSettings(), is_last=True)


def test_normalisation_that_nothing_folds_runs_with_its_own_values() -> None:
    text = """
    g (float[1, 5, 6, 6] x) => (float[1, n, 6, 6] y) {
        a = BatchNormalization<epsilon = 0.0>(x, gamma, beta, mean, var)
        b = Relu(a)
        y = Conv(b, w)
    }
    """
    shapes = {"gamma": (5,), "beta": (5,), "mean": (5,), "var": (5,), "w": (8, 5, 1, 1)}
    session = BlockSession(
        canonical(text, shapes), Border((1, 5, 6, 6), is_blocked=False), SessionSettings(), is_last=True
    )
    x, values = drawn(9, 1, 5, 6, 6), {name: drawn(i, *shape) for i, (name, shape) in enumerate(shapes.items())}
    values |= {"mean": np.zeros(5, np.float32), "var": np.ones(5, np.float32)}
    names = list(shapes)
    feeds = {each.name: _laid_out(values[names[each.weight]], each) for each in session.weights}
    (got,) = session.session.run(None, {session.x: x, **feeds})
    normal = values["gamma"][:, None, None] * x + values["beta"][:, None, None]
    expected = np.einsum("oi,bihw->bohw", values["w"][:, :, 0, 0], np.maximum(normal, 0))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def _laid_out(array: Array, each: WeightInput) -> Array:
    return fitted(each.layout.lay_out(array), each.shape)


def test_limits_of_an_activation_and_a_bias_of_one_number_stay_apart() -> None:
    text = """
    g (float[1, 8, 6, 6] x) => (float[1, n, 6, 6] y) <float low = {0.0}, float high = {6.0}> {
        a = Conv(x, w)
        b = Clip(a, low, high)
        c = Conv(b, v, bias)
        y = Clip(c, low, high)
    }
    """
    shapes = {"w": (8, 8, 1, 1), "v": (1, 8, 1, 1), "bias": (1,)}
    session = BlockSession(
        canonical(text, shapes), Border((1, 8, 6, 6), is_blocked=False), SessionSettings(), is_last=True
    )
    x, (w, v, bias) = 20 * drawn(9, 1, 8, 6, 6), (drawn(i, *shape) for i, shape in enumerate(shapes.values()))
    feeds = {each.name: _laid_out((w, v, bias)[each.weight], each) for each in session.weights}
    (got,) = session.session.run(None, {session.x: x, **feeds})
    inner = np.clip(np.einsum("oi,bihw->bohw", w[:, :, 0, 0], x), 0, 6)
    expected = np.clip(np.einsum("oi,bihw->bohw", v[:, :, 0, 0], inner) + bias, 0, 6)
    assert 0 < np.mean(expected == 0) < 1  # the limits bite
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_onnx_is_what_the_skeleton_is_read_from() -> None:
    proto = ir.to_proto(model_of(DENSE, {n: drawn(i, *s) for i, (n, s) in enumerate(DENSE_WEIGHTS.items())}))
    assert [n.to_proto() for n in Skeleton.of(proto, DENSE_WEIGHTS).nodes] == [_nameless(n) for n in proto.graph.node]


def _nameless(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.ClearField("name")
    return copy
