"""MACs counted on a graph, against formulas."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime.linking.macs import graph_macs


def model_of(text: str, **shapes: tuple[int, ...]) -> onnx.ModelProto:
    """A model from the text of its graph; its constants are zeros of the given shapes."""
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 18]>\n{text}')
    for name, shape in shapes.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
    return model


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.sampled_from([1, 3]), st.sampled_from([1, 2]))
def test_a_convolution_costs_its_outputs_times_what_each_reads(
    groups: int, inputs: int, outputs: int, kernel: int, stride: int
) -> None:
    c_in, c_out, side = groups * inputs, groups * outputs, 8
    model = model_of(
        f"""
        g (float[1, {c_in}, {side}, {side}] x) => (float[1, {c_out}, H, W] y) {{
            y = Conv <pads = [{kernel // 2}, {kernel // 2}, {kernel // 2}, {kernel // 2}],
                      strides = [{stride}, {stride}], group = {groups}> (x, w, b)
        }}
        """,
        w=(c_out, inputs, kernel, kernel),
        b=(c_out,),
    )
    side_out = side // stride
    assert graph_macs(model) == side_out**2 * c_out * inputs * kernel**2


@pytest.mark.parametrize(("trans_a", "trans_b"), [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_a_gemm_costs_rows_times_columns_times_the_inner_size(trans_a: int, trans_b: int) -> None:
    rows, inner, columns = 2, 5, 7
    a = [inner, rows] if trans_a else [rows, inner]
    model = model_of(
        f"g (float{a} x) => (float[M, N] y) {{ y = Gemm <transA = {trans_a}, transB = {trans_b}> (x, w, b) }}",
        w=(columns, inner) if trans_b else (inner, columns),
        b=(columns,),
    )
    assert graph_macs(model) == rows * inner * columns


def test_a_matrix_product_costs_rows_times_columns_times_the_inner_size() -> None:
    model = model_of("g (float[3, 5] x) => (float[3, 7] y) { y = MatMul (x, w) }", w=(5, 7))
    assert graph_macs(model) == 3 * 5 * 7


def test_bias_normalisation_activation_and_pooling_cost_nothing() -> None:
    model = model_of(
        """
        g (float[1, 4, 8, 8] x) => (float[1, 4, 1, 1] y) {
            a = BatchNormalization (x, v, v, v, v)
            b = Relu (a)
            c = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (b)
            d = Add (c, c)
            y = GlobalAveragePool (d)
        }
        """,
        v=(4,),
    )
    assert graph_macs(model) == 0


def test_costs_add_up_along_a_graph() -> None:
    model = model_of(
        """
        g (float[1, 3, 8, 8] x) => (float[1, 10] y) {
            a = Conv <pads = [1, 1, 1, 1], strides = [2, 2]> (x, w1)
            b = Conv (a, w2)
            c = GlobalAveragePool (b)
            d = Flatten (c)
            y = Gemm (d, w3)
        }
        """,
        w1=(4, 3, 3, 3),
        w2=(6, 4, 1, 1),
        w3=(6, 10),
    )
    assert graph_macs(model) == 4 * 4 * 4 * 3 * 3 * 3 + 4 * 4 * 6 * 4 + 6 * 10


def test_an_operator_of_unknown_cost_is_refused_and_never_counted_as_zero() -> None:
    model = model_of('g (float[1, 3] x) => (float[1, 3] y) { y = Einsum <equation = "ij->ij"> (x) }')
    with pytest.raises(PlanError, match="cannot count the MACs of operator Einsum"):
        graph_macs(model)


def test_every_operator_that_a_bundle_may_hold_has_a_known_cost() -> None:
    from tnn_edge.bundle.structure import ALLOWED_OPERATORS
    from tnn_edge.runtime.linking.macs import _FREE

    assert {"Conv", "Gemm", "MatMul"} == ALLOWED_OPERATORS - _FREE


def test_a_shape_that_only_the_run_would_tell_is_refused() -> None:
    model = model_of("g (float[1, N] x) => (float[1, N] y) { a = Relu (x)\n y = Relu (a) }")
    with pytest.raises(BundleError, match="the shape of x is not known before the network runs"):
        graph_macs(model)


@pytest.mark.parametrize(("side", "fits"), [(2**13, True), (2**13 + 1, False)])
def test_a_value_of_more_than_256_mb_is_refused(side: int, fits: bool) -> None:
    model = model_of(f"g (float[1, 1, {2**13}, {side}] x) => (float[1, 1, 1, 1] y) {{ y = GlobalAveragePool (x) }}")
    if fits:
        assert 4 * 2**13 * side == 256 * 2**20
        assert graph_macs(model) == 0
        return
    with pytest.raises(BundleError, match=rf"x of shape .* takes {4 * 2**13 * side} bytes, .* at most 268435456 for"):
        graph_macs(model)
