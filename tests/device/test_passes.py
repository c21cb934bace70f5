"""Slicing, absent branches and repeated ReLUs: each rewrite on a small graph, against the same graph without it."""

from __future__ import annotations

import sys

import numpy as np
import onnx_ir as ir
import pytest

from tests.device.graphs import IMAGE, drawn, model_of, operators, run
from tnn_edge.bundle import Slice, TensorSpec
from tnn_edge.runtime.linking.passes import RemoveAbsentBranches, RemoveRepeatedRelu, SliceComponents
from tnn_edge.runtime.linking.passes.constants import constant, set_constant

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


def sliced(axis: int, *, scaled: bool = False, group_of: str | None = None) -> TensorSpec:
    return TensorSpec(slices=(Slice(axis=axis, gate="g", channels=CHANNELS, scaled=scaled),), group_of=group_of)


SLICE_MAP = {
    "w1": sliced(0),
    "b1": sliced(0),
    "w2": sliced(0, group_of="g"),
    "w3": sliced(1, scaled=True),
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


def test_a_tensor_of_which_nothing_would_remain_is_named() -> None:
    with pytest.raises(ValueError, match=r"w3 is sliced by g, of which no component is on"):
        SliceComponents({"w3": sliced(1)}, {"g": "0000"}).call(hidden())


def dense(bits: str) -> tuple[ir.Model, Slice]:
    """A convolution that reads two ungated channels and those of the first two of four components."""
    model = model_of(
        "g (float[1, M, 6, 6] x) => (float[1, 4, 6, 6] y) { y = Conv (x, w) }", {"w": drawn(1, 4, 2 + 2 * 3, 1, 1)}
    )
    lying = Slice(axis=1, gate="g", channels=3, ungated=2, components=2, scaled=True)
    SliceComponents({"w": TensorSpec(slices=(lying,))}, {"g": bits})(model)
    return model, lying


@pytest.mark.parametrize(
    ("bits", "kept", "factor"),
    [
        ("1011", [2, 3, 4], 2.0),
        ("0100", [5, 6, 7], 2.0),
        ("1100", [2, 3, 4, 5, 6, 7], 1.0),
        ("0011", [], 1.0),
    ],
)
def test_ungated_channels_stay_unscaled_and_later_components_do_not_count(
    bits: str, kept: list[int], factor: float
) -> None:
    model, _ = dense(bits)
    full = drawn(1, 4, 8, 1, 1)
    expected = np.concatenate([full[:, :2], full[:, kept] * np.float32(factor)], axis=1)
    np.testing.assert_array_equal(constant(model.graph.initializers["w"]), expected)


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
    assert RemoveAbsentBranches(["zero"])(model).modified
    assert operators(model) == ["Conv", "Relu"]
    assert set(model.graph.initializers) == {"w3"}
    np.testing.assert_array_equal(run(model, IMAGE), before)


def test_an_absent_branch_beside_the_identity_leaves_the_identity() -> None:
    text = "g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) { b = Conv (x, w)\n s = Add (b, x)\n y = Relu (s) }"
    model = model_of(text, {"w": np.zeros((3, 3, 1, 1), np.float32)})
    assert RemoveAbsentBranches(["b"])(model).modified
    assert operators(model) == ["Relu"]
    np.testing.assert_array_equal(run(model, IMAGE), np.maximum(IMAGE, 0))


def test_a_branch_that_nothing_adds_changes_nothing() -> None:
    model = hidden()
    assert not RemoveAbsentBranches(["s"])(model).modified
    assert not RemoveAbsentBranches(["no such value"])(model).modified
    assert operators(model) == ["Conv", "Relu", "Conv", "Relu", "Conv"]


CONCATENATED = """
    g (float[1, 3, 6, 6] x) => (float[1, M, 6, 6] y) {
        a = Conv (x, wa)
        both = Concat <axis = 1> (x, a)
        b = Conv (both, wb)
        y = Concat <axis = 1> (x, a, b)
    }
"""


def test_a_concatenation_leaves_out_what_is_absent() -> None:
    model = model_of(CONCATENATED, {"wa": drawn(1, 2, 3, 1, 1), "wb": drawn(2, 2, 5, 1, 1)})
    before = run(model, IMAGE)
    assert RemoveAbsentBranches(["b"])(model).modified
    assert operators(model) == ["Conv", "Concat"]
    assert set(model.graph.initializers) == {"wa"}
    np.testing.assert_array_equal(run(model, IMAGE), before[:, :5])


def test_a_concatenation_of_one_value_is_that_value() -> None:
    model = model_of(CONCATENATED, {"wa": drawn(1, 2, 3, 1, 1), "wb": drawn(2, 2, 5, 1, 1)})
    assert RemoveAbsentBranches(["a", "b"])(model).modified
    assert operators(model) == []
    assert model.graph.outputs[0] is model.graph.inputs[0]


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
