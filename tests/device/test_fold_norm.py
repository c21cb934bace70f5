"""Folding normalisation into convolutions, against the same graph that normalises."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device.graphs import EPSILON, IMAGE, Array, drawn, model_of, operators, run
from tnn_edge.runtime.linking.passes import FoldNormalisation
from tnn_edge.runtime.linking.passes.constants import constant


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
