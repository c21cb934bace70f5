"""Each graph rewrite on a small graph, against the same graph without it."""

from __future__ import annotations

import sys
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tnn_edge.bundle import Slice, TensorSpec
from tnn_edge.runtime.passes import FoldNormalisation, RemoveAbsentBranch, RemoveRepeatedRelu, SliceComponents
from tnn_edge.runtime.passes.constants import constant, set_constant

Array = npt.NDArray[np.float32]

EPSILON = 1e-5


def model_of(text: str, constants: Mapping[str, Array] | None = None) -> ir.Model:
    """A model from the text of its graph; its constants are initializers."""
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')
    for name, array in (constants or {}).items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.checker.check_model(proto)
    return ir.from_proto(proto)


def run(model: ir.Model, x: Array) -> Array:
    """What ONNX Runtime computes without any optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (y,) = session.run(None, {"x": x})
    return np.asarray(y)


def operators(model: ir.Model) -> list[str]:
    return [node.op_type for node in model.graph]


def drawn(seed: int, *shape: int, low: float = -1.0) -> Array:
    return np.random.default_rng(seed).uniform(low, 1.0, shape).astype(np.float32)


def norm_of(seed: int, channels: int, name: str = "") -> dict[str, Array]:
    """Constants of a normalisation, none of them trivial; some of gamma are negative."""
    return {
        f"gamma{name}": drawn(seed, channels),
        f"beta{name}": drawn(seed + 1, channels),
        f"mean{name}": drawn(seed + 2, channels),
        f"var{name}": drawn(seed + 3, channels, low=0.2),
    }


def statistics_of(seed: int, channels: int, name: str = "") -> dict[str, Array]:
    return {f"mean{name}": drawn(seed, channels), f"var{name}": drawn(seed + 1, channels, low=0.2)}


THROUGH_RELU = """
g (float[1, 3, 6, 6] x) => (float[1, 4, H, W] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    n = BatchNormalization (a, gamma, beta, mean, var)
    r = Relu (n)
    y = Conv <pads = [1, 1, 1, 1], group = GROUP> (r, w2)
}
"""
IMAGE = drawn(99, 1, 3, 6, 6)


def through_relu(groups: int = 1, **replaced: Array) -> ir.Model:
    constants = {"w1": drawn(1, 8, 3, 3, 3), **norm_of(10, 8), "w2": drawn(2, 4, 8 // groups, 3, 3), **replaced}
    return model_of(THROUGH_RELU.replace("GROUP", str(groups)), constants)


def test_folding_the_blocks_own_statistics_changes_no_output() -> None:
    model = through_relu()
    before = run(model, IMAGE)
    assert FoldNormalisation({})(model).modified
    assert operators(model) == ["Conv", "Relu", "Conv"]
    np.testing.assert_allclose(run(model, IMAGE), before, rtol=1e-4, atol=1e-5)


def test_folding_keeps_the_names_that_the_slice_map_uses() -> None:
    model = through_relu()
    FoldNormalisation({})(model)
    assert set(model.graph.initializers) == {"w1", "beta", "w2"}
    assert [value.name for node in model.graph for value in node.inputs if value is not None] == [
        *("x", "w1", "beta"), "n", *("r", "w2"),
    ]  # fmt: skip


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_folding_other_statistics_equals_normalising_with_them(groups: int) -> None:
    statistics = statistics_of(20, 8)
    model, wanted = through_relu(groups), through_relu(groups, **statistics)
    assert FoldNormalisation(statistics)(model).modified
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_before_relu_and_convolution_the_weight_is_the_same_bytes_at_every_point(groups: int) -> None:
    folded = []
    for statistics in ({}, statistics_of(20, 8), statistics_of(30, 8)):
        model = through_relu(groups)
        FoldNormalisation(statistics)(model)
        folded.append({name: constant(value) for name, value in model.graph.initializers.items()})
    plain = norm_of(10, 8)
    by_formula = drawn(1, 8, 3, 3, 3) * (plain["gamma"] / np.sqrt(plain["var"] + EPSILON))[:, None, None, None]
    np.testing.assert_allclose(folded[0]["w1"], by_formula, rtol=1e-6)
    assert folded[0]["w1"].tobytes() == folded[1]["w1"].tobytes() == folded[2]["w1"].tobytes()
    assert folded[0]["w2"].tobytes() == drawn(2, 4, 8 // groups, 3, 3).tobytes()
    assert not np.array_equal(folded[0]["w2"], folded[1]["w2"])
    assert not np.array_equal(folded[0]["beta"], folded[1]["beta"])


def test_statistics_equal_to_the_blocks_own_change_no_byte() -> None:
    own = {name: array for name, array in norm_of(10, 8).items() if name in ("mean", "var")}
    with_own, without = through_relu(), through_relu()
    FoldNormalisation(own)(with_own)
    FoldNormalisation({})(without)
    for name, value in without.graph.initializers.items():
        assert constant(with_own.graph.initializers[name]).tobytes() == constant(value).tobytes()


@settings(max_examples=25)
@given(st.integers(0, 2**16), st.sampled_from([1, 2, 4]), st.floats(1e-3, 0.2))
def test_folding_any_statistics_equals_normalising_with_them(seed: int, groups: int, epsilon: float) -> None:
    text = THROUGH_RELU.replace("GROUP", str(groups))
    text = text.replace("BatchNormalization", f"BatchNormalization <epsilon = {epsilon:.6f}>")
    constants = {"w1": drawn(seed, 8, 3, 3, 3), **norm_of(seed, 8), "w2": drawn(seed, 4, 8 // groups, 3, 3)}
    statistics = statistics_of(seed + 50, 8)
    model, wanted = model_of(text, constants), model_of(text, {**constants, **statistics})
    FoldNormalisation(statistics)(model)
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-3, atol=1e-4)


TWO_NORMS = """
g (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    n1 = BatchNormalization (a, gamma1, beta1, mean1, var1)
    r1 = Relu (n1)
    b = Conv <pads = [1, 1, 1, 1], group = 2> (r1, w2)
    n2 = BatchNormalization (b, gamma2, beta2, mean2, var2)
    r2 = Relu (n2)
    c = Conv (r2, w3)
    n3 = BatchNormalization (c, gamma3, beta3, mean3, var3)
    s = Conv (x, w4)
    sum = Add (n3, s)
    y = Relu (sum)
}
"""


def bottleneck(**replaced: Array) -> ir.Model:
    constants = {
        "w1": drawn(1, 8, 3, 3, 3), "w2": drawn(2, 8, 4, 3, 3), "w3": drawn(3, 4, 8, 1, 1), "w4": drawn(4, 4, 3, 1, 1),
        **norm_of(10, 8, "1"), **norm_of(20, 8, "2"), **norm_of(30, 4, "3"),
    }  # fmt: skip
    return model_of(TWO_NORMS, {**constants, **replaced})


BOTTLENECK_STATISTICS = {**statistics_of(50, 8, "1"), **statistics_of(60, 8, "2"), **statistics_of(70, 4, "3")}


def test_a_bottleneck_folded_with_other_statistics_equals_normalising_with_them() -> None:
    model, wanted = bottleneck(), bottleneck(**BOTTLENECK_STATISTICS)
    assert FoldNormalisation(BOTTLENECK_STATISTICS)(model).modified
    assert operators(model) == ["Conv", "Relu", "Conv", "Relu", "Conv", "Conv", "Add", "Relu"]
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-4, atol=1e-5)


def test_before_an_addition_the_weight_is_of_its_own_point() -> None:
    statistics = {name: array for name, array in BOTTLENECK_STATISTICS.items() if name.endswith("3")}
    shared, own = bottleneck(), bottleneck()
    FoldNormalisation({})(shared)
    FoldNormalisation(statistics)(own)
    sigma = np.sqrt(statistics["var3"] + EPSILON)
    by_formula = drawn(3, 4, 8, 1, 1) * (norm_of(30, 4, "3")["gamma3"] / sigma)[:, None, None, None]
    np.testing.assert_allclose(constant(own.graph.initializers["w3"]), by_formula, rtol=1e-5)
    assert constant(own.graph.initializers["w1"]).tobytes() == constant(shared.graph.initializers["w1"]).tobytes()
    np.testing.assert_allclose(run(own, IMAGE), run(bottleneck(**statistics), IMAGE), rtol=1e-4, atol=1e-5)


READERS = {
    "two readers of the normalisation": "r = Relu (n)\n y1 = Conv (r, w2)\n y = Add (y1, n)",
    "two readers of the ReLU": "r = Relu (n)\n y1 = Conv (r, w2)\n y = Add (y1, r)",
    "no ReLU": "y = Conv (n, w2)",
    "another activation": "r = Sigmoid (n)\n y = Conv (r, w2)",
    "pooling before the next convolution": "r = Relu (n)\n p = MaxPool <kernel_shape = [2, 2]> (r)\n y = Conv (p, w2)",
    "the output": "y = Relu (n)",
}


@pytest.mark.parametrize("rest", READERS.values(), ids=READERS)
def test_where_the_scale_cannot_pass_it_stays_in_the_convolution(rest: str) -> None:
    text = f"""
    g (float[1, 3, 6, 6] x) => (float[1, 4, H, W] y) {{
        a = Conv (x, w1)
        n = BatchNormalization (a, gamma, beta, mean, var)
        {rest}
    }}
    """
    constants = {"w1": drawn(1, 4, 3, 3, 3), **norm_of(10, 4), "w2": drawn(2, 4, 4, 1, 1)}
    statistics = statistics_of(20, 4)
    model, wanted = model_of(text, constants), model_of(text, {**constants, **statistics})
    assert FoldNormalisation(statistics)(model).modified
    assert "BatchNormalization" not in operators(model)
    assert constant(model.graph.initializers["w2"]).tobytes() == constants["w2"].tobytes()
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-4, atol=1e-5)


def test_the_bias_of_a_convolution_is_folded_too() -> None:
    text = THROUGH_RELU.replace("(x, w1)", "(x, w1, b1)").replace("GROUP", "1")
    constants = {
        "w1": drawn(1, 8, 3, 3, 3), "b1": drawn(3, 8), **norm_of(10, 8), "w2": drawn(2, 4, 8, 3, 3)
    }  # fmt: skip
    for statistics in ({}, statistics_of(20, 8)):
        model, wanted = model_of(text, constants), model_of(text, {**constants, **statistics})
        assert FoldNormalisation(statistics)(model).modified
        np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-4, atol=1e-5)


def test_a_normalisation_as_the_output_keeps_the_outputs_name() -> None:
    text = """
    g (float[1, 3, 6, 6] x) => (float[1, 4, H, W] y) {
        a = Conv (x, w1)
        y = BatchNormalization (a, gamma, beta, mean, var)
    }
    """
    constants = {"w1": drawn(1, 4, 3, 3, 3), **norm_of(10, 4)}
    statistics = statistics_of(20, 4)
    model, wanted = model_of(text, constants), model_of(text, {**constants, **statistics})
    assert FoldNormalisation(statistics)(model).modified
    assert [value.name for value in model.graph.outputs] == ["y"]
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-4, atol=1e-5)


NOT_AFTER_A_CONVOLUTION = {
    "after the input": "y = BatchNormalization (x, gamma, beta, mean, var)",
    "after ReLU": "r = Relu (x)\n y = BatchNormalization (r, gamma, beta, mean, var)",
    "convolution with two readers": (
        "a = Conv (x, w1)\n n = BatchNormalization (a, gamma, beta, mean, var)\n y = Add (a, n)"
    ),
}


@pytest.mark.parametrize("rest", NOT_AFTER_A_CONVOLUTION.values(), ids=NOT_AFTER_A_CONVOLUTION)
def test_a_normalisation_that_cannot_be_folded_takes_the_points_statistics(rest: str) -> None:
    text = f"g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) {{ {rest} }}"
    constants = norm_of(10, 3) | ({"w1": drawn(1, 3, 3, 1, 1)} if "w1" in rest else {})
    statistics = statistics_of(20, 3)
    model, wanted = model_of(text, constants), model_of(text, {**constants, **statistics})
    assert FoldNormalisation(statistics)(model).modified
    assert "BatchNormalization" in operators(model)
    np.testing.assert_allclose(run(model, IMAGE), run(wanted, IMAGE), rtol=1e-5, atol=1e-6)
    assert not FoldNormalisation({})(wanted).modified


def test_a_graph_without_normalisation_is_left_alone() -> None:
    model = model_of("g (float[1, 3, 6, 6] x) => (float[1, 3, 6, 6] y) { y = Relu (x) }")
    assert not FoldNormalisation({"mean": drawn(0, 3)})(model).modified


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
