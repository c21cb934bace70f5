"""Slicing, absent branches and repeated ReLUs: each rewrite on a small graph, against the same graph without it."""

from __future__ import annotations

import sys

import numpy as np
import onnx_ir as ir
import pytest

from tests.device.graphs import IMAGE, drawn, model_of, operators, run
from tnn_edge.bundle import Slice, TensorSpec
from tnn_edge.runtime.passes import RemoveAbsentBranch, RemoveRepeatedRelu, SliceComponents
from tnn_edge.runtime.passes.constants import constant, set_constant

HIDDEN = """
g (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {
    a = Conv (x, w1, b1)
    r = Relu (a)
    b = Conv <pads = [1, 1, 1, 1], group = 4> (r, w2)
    s = Relu (b)
    y = Conv (s, w3)
}
"""
N, CHANNELS = 4, 2


def hidden() -> ir.Model:
    """Four components of two channels each, summed by the last convolution."""
    constants = {
        "w1": drawn(1, N * CHANNELS, 3, 1, 1), "b1": drawn(2, N * CHANNELS),
        "w2": drawn(3, N * CHANNELS, CHANNELS, 3, 3), "w3": drawn(4, 4, N * CHANNELS, 1, 1),
    }  # fmt: skip
    return model_of(HIDDEN, constants)


def sliced(axis: int, *, scaled_by: str | None = None, group_of: str | None = None) -> TensorSpec:
    return TensorSpec(slices=(Slice(axis=axis, gate="g", channels=CHANNELS),), scaled_by=scaled_by, group_of=group_of)


SLICE_MAP = {
    "w1": sliced(0),
    "b1": sliced(0),
    "w2": sliced(0, group_of="g"),
    "w3": sliced(1, scaled_by="g"),
}


@pytest.mark.parametrize("bits", ["1000", "0001", "0101", "1110", "1011", "0110"])
def test_slicing_equals_zeroing_what_is_off_and_scaling_by_offered_over_on(bits: str) -> None:
    masked, model = hidden(), hidden()
    on = np.repeat([bit == "1" for bit in bits], CHANNELS)
    weight = masked.graph.initializers["w3"]
    set_constant(weight, constant(weight) * on[None, :, None, None] * np.float32(N / bits.count("1")))
    assert SliceComponents(SLICE_MAP, {"g": bits})(model).modified
    np.testing.assert_allclose(run(model, IMAGE), run(masked, IMAGE), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("bits", ["1000", "0101", "1110"])
def test_slicing_keeps_only_the_channels_that_are_on(bits: str) -> None:
    model = hidden()
    SliceComponents(SLICE_MAP, {"g": bits})(model)
    k = bits.count("1")
    kept = [CHANNELS * i + c for i in range(N) if bits[i] == "1" for c in range(CHANNELS)]
    arrays = {name: constant(value) for name, value in model.graph.initializers.items()}
    np.testing.assert_array_equal(arrays["w1"], drawn(1, N * CHANNELS, 3, 1, 1)[kept])
    np.testing.assert_array_equal(arrays["b1"], drawn(2, N * CHANNELS)[kept])
    np.testing.assert_array_equal(arrays["w2"], drawn(3, N * CHANNELS, CHANNELS, 3, 3)[kept])
    np.testing.assert_array_equal(arrays["w3"], drawn(4, 4, N * CHANNELS, 1, 1)[:, kept] * np.float32(N / k))
    groups = [node.attributes.get_int("group", 1) for node in model.graph if node.op_type == "Conv"]
    assert groups == [1, k, 1]
    assert list(model.graph.initializers["w1"].shape or ()) == [k * CHANNELS, 3, 1, 1]


def test_slicing_two_axes_of_one_tensor_keeps_where_both_are_on() -> None:
    model = model_of(
        "g (float[1, 4, 6, 6] x) => (float[1, M, 6, 6] y) { y = Conv (x, w) }", {"w": drawn(1, 6, 4, 1, 1)}
    )
    spec = TensorSpec(slices=(Slice(axis=0, gate="out", channels=3), Slice(axis=1, gate="in", channels=1)))
    assert SliceComponents({"w": spec}, {"out": "01", "in": "1010"})(model).modified
    got = constant(model.graph.initializers["w"])
    np.testing.assert_array_equal(got, drawn(1, 6, 4, 1, 1)[np.ix_([3, 4, 5], [0, 2])])


def test_with_every_component_on_nothing_changes() -> None:
    model = hidden()
    assert not SliceComponents(SLICE_MAP, {"g": "1111"})(model).modified
    np.testing.assert_array_equal(run(model, IMAGE), run(hidden(), IMAGE))


def test_a_tensor_that_folding_took_away_is_passed_over() -> None:
    model = hidden()
    assert not SliceComponents({"gone": sliced(0)}, {"g": "1000"})(model).modified


@pytest.mark.parametrize("spec", [sliced(1), TensorSpec(slices=(), scaled_by="g")])
def test_a_tensor_with_no_component_on_is_named(spec: TensorSpec) -> None:
    with pytest.raises(ValueError, match=r"w3 is s(liced|caled) by g, of which no component is on"):
        SliceComponents({"w3": spec}, {"g": "0000"}).call(hidden())


def test_scaling_alone_multiplies_by_offered_over_on() -> None:
    model = hidden()
    assert SliceComponents({"w3": TensorSpec(slices=(), scaled_by="g")}, {"g": "0100"})(model).modified
    got = constant(model.graph.initializers["w3"])
    np.testing.assert_array_equal(got, drawn(4, 4, N * CHANNELS, 1, 1) * np.float32(N / 1))


@pytest.mark.parametrize("operands", ["zero, s", "s, zero"])
def test_the_addition_of_an_absent_branch_is_its_other_operand(operands: str) -> None:
    text = f"""
    g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{
        a = Conv (x, w1)
        r = Relu (a)
        zero = Conv (r, w2)
        s = Conv (x, w3)
        sum = Add ({operands})
        y = Relu (sum)
    }}
    """
    constants = {"w1": drawn(1, 3, 3, 1, 1), "w2": np.zeros((3, 3, 1, 1), np.float32), "w3": drawn(3, 3, 3, 1, 1)}
    model = model_of(text, constants)
    before = run(model, IMAGE)
    assert RemoveAbsentBranch("zero")(model).modified
    assert operators(model) == ["Conv", "Relu"]
    assert set(model.graph.initializers) == {"w3"}
    np.testing.assert_array_equal(run(model, IMAGE), before)


def test_an_absent_branch_beside_the_identity_leaves_the_identity() -> None:
    text = "g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) { b = Conv (x, w)\n s = Add (b, x)\n y = Relu (s) }"
    model = model_of(text, {"w": np.zeros((3, 3, 1, 1), np.float32)})
    assert RemoveAbsentBranch("b")(model).modified
    assert operators(model) == ["Relu"]
    np.testing.assert_array_equal(run(model, IMAGE), np.maximum(IMAGE, 0))


def test_a_branch_that_nothing_adds_changes_nothing() -> None:
    model = hidden()
    assert not RemoveAbsentBranch("s")(model).modified
    assert not RemoveAbsentBranch("no such value")(model).modified
    assert operators(model) == ["Conv", "Relu", "Conv", "Relu", "Conv"]


@pytest.mark.parametrize(
    ("body", "left"),
    [
        ("a = Relu (x)\n y = Relu (a)", ["Relu"]),
        ("a = Relu (x)\n b = Relu (a)\n y = Relu (b)", ["Relu"]),
        ("a = Relu (x)\n b = MaxPool <kernel_shape = [1, 1]> (a)\n y = Relu (b)", ["Relu", "MaxPool"]),
        ("a = Relu (x)\n b = Identity (a)\n c = Relu (b)\n y = Add (c, x)", ["Relu", "Identity", "Add"]),
    ],
)
def test_a_relu_after_a_relu_goes(body: str, left: list[str]) -> None:
    model = model_of(f"g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{ {body} }}")
    before = run(model, IMAGE)
    assert RemoveRepeatedRelu()(model).modified
    assert operators(model) == left
    np.testing.assert_array_equal(run(model, IMAGE), before)


def test_a_relu_behind_a_chain_longer_than_the_call_stack_goes() -> None:
    n = 2 * sys.getrecursionlimit()
    chain = "\n".join(f"a{i + 1} = Identity (a{i})" for i in range(n))
    text = f"a0 = Relu (x)\n {chain}\n b = Relu (a{n})\n y = Add (b, x)"
    model = model_of(f"g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{ {text} }}")
    assert RemoveRepeatedRelu()(model).modified
    assert operators(model) == ["Relu", *["Identity"] * n, "Add"]


@pytest.mark.parametrize(
    "body",
    [
        "y = Relu (x)",
        "a = Relu (x)\n b = Add (a, x)\n y = Relu (b)",
        "a = MaxPool <kernel_shape = [1, 1]> (x)\n y = Relu (a)",
        "a = Relu (x)\n b = Conv (a, w)\n y = Relu (b)",
    ],
)
def test_a_relu_that_reads_what_may_be_negative_stays(body: str) -> None:
    constants = {"w": drawn(1, 3, 3, 1, 1)} if "w" in body else {}
    model = model_of(f"g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{ {body} }}", constants)
    before, nodes = run(model, IMAGE), operators(model)
    assert not RemoveRepeatedRelu()(model).modified
    assert operators(model) == nodes
    np.testing.assert_array_equal(run(model, IMAGE), before)


def test_a_value_that_is_no_constant_is_named() -> None:
    model = hidden()
    with pytest.raises(ValueError, match="x is no constant"):
        constant(model.graph.inputs[0])
    with pytest.raises(ValueError, match="a missing input is no constant"):
        constant(None)
