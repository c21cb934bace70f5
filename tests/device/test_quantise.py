"""Quantised graphs against integer arithmetic written out, ONNX Runtime's own quantiser, and float32."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnxruntime import quantization

from tests.device.calibrated import WIDTHS, calibrated_copy, linked, quantised_point, ranges_on, session, with_ranges
from tests.device.graphs import Array, drawn, model_of
from tnn_edge.bundle import Bundle, QuantisationSpec, open_bundle
from tnn_edge.bundle.quantisation import RANGES, WeightBits, read_ranges
from tnn_edge.errors import BundleError, SchemaError
from tnn_edge.runtime.linking.passes.insert_qdq import InsertQuantisation, quantised_values
from tnn_edge.runtime.linking.quantise import weight_bits

Ranges = Mapping[str, tuple[float, float]]


def run(model: onnx.ModelProto, x: Array, *, optimise: bool) -> Array:
    (y,) = session(model, optimise=optimise).run(None, {model.graph.input[0].name: x})
    return np.asarray(y)


def quantised(model: ir.Model, ranges: Ranges, bits: WeightBits = 8) -> onnx.ModelProto:
    assert InsertQuantisation(ranges, bits)(model).modified
    proto = ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def constants(model: onnx.ModelProto) -> dict[str, npt.NDArray[Any]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def relative_error(got: Array, wanted: Array) -> float:
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


# --- a small graph against arithmetic on integers

SUM_OF_TWO = """
g (float[1, 3, 6, 6] x) => (float[1, 4, 6, 6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
    r = Relu (a)
    c = Conv <pads = [0, 0, 0, 0]> (r, w2, b2)
    s = Conv <pads = [0, 0, 0, 0]> (x, w3)
    t = Add (c, s)
    q = Relu (t)
    y = Neg (q)
}
"""
WEIGHTS = {
    "w1": drawn(1, 5, 3, 3, 3), "b1": drawn(2, 5), "w2": drawn(3, 4, 5, 1, 1), "b2": drawn(4, 4),
    "w3": drawn(5, 4, 3, 1, 1),
}  # fmt: skip
SUM_RANGES: Ranges = {"x": (-1.0, 1.0), "r": (0.0, 3.5), "c": (-3.0, 4.0), "s": (-1.5, 1.5), "q": (0.0, 4.5)}


def scale_of(low: float, high: float) -> tuple[float, int]:
    scale = float(np.float32((high - low) / 255))
    return scale, round(-low / scale)


def to_levels(x: npt.NDArray[Any], low: float, high: float) -> npt.NDArray[np.int64]:
    scale, zero = scale_of(low, high)
    return (np.rint(x / scale) + zero).clip(0, 255).astype(np.int64)


def integer_conv(x: npt.NDArray[np.int64], zero: int, weight: Array, level: int) -> tuple[Any, Any]:
    """Sums of products of integers [O, H, W], same size, and the scale of each output channel."""
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1) / level
    w = np.rint(weight / scale[:, None, None, None]).astype(np.int64)
    pad = w.shape[2] // 2
    padded = np.pad(x - zero, ((0, 0), (pad, pad), (pad, pad)))
    sums = np.zeros((len(w), *x.shape[1:]), np.int64)
    for o, i, j in np.ndindex(sums.shape):
        sums[o, i, j] = (padded[:, i : i + w.shape[2], j : j + w.shape[3]] * w[o]).sum()
    return sums, scale


def by_hand(image: Array, level: int) -> npt.NDArray[np.floating[Any]]:
    """`SUM_OF_TWO` on integers: after each operator its value is one of the 256 levels of its range."""
    sx, zx = scale_of(*SUM_RANGES["x"])
    sr, zr = scale_of(*SUM_RANGES["r"])
    x = to_levels(image, *SUM_RANGES["x"])
    sums, scale = integer_conv(x, zx, WEIGHTS["w1"], level)
    sums = sums + np.rint(WEIGHTS["b1"] / (sx * scale)).astype(np.int64)[:, None, None]
    r = to_levels(np.maximum(sums * (sx * scale)[:, None, None], 0), *SUM_RANGES["r"])
    sums, scale = integer_conv(r, zr, WEIGHTS["w2"], level)
    sums = sums + np.rint(WEIGHTS["b2"] / (sr * scale)).astype(np.int64)[:, None, None]
    c = to_levels(sums * (sr * scale)[:, None, None], *SUM_RANGES["c"])
    sums, scale = integer_conv(x, zx, WEIGHTS["w3"], level)
    s = to_levels(sums * (sx * scale)[:, None, None], *SUM_RANGES["s"])
    (sc, zc), (ss, zs) = scale_of(*SUM_RANGES["c"]), scale_of(*SUM_RANGES["s"])
    q = to_levels(np.maximum((c - zc) * sc + (s - zs) * ss, 0), *SUM_RANGES["q"])
    return -q * scale_of(*SUM_RANGES["q"])[0]


@pytest.mark.parametrize("optimise", [False, True], ids=["as written", "optimised"])
@pytest.mark.parametrize(("bits", "level"), [(7, 64), (8, 127)])
def test_quantised_graph_computes_what_integers_give(bits: WeightBits, level: int, optimise: bool) -> None:
    proto = quantised(model_of(SUM_OF_TWO, WEIGHTS), SUM_RANGES, bits)
    step = scale_of(*SUM_RANGES["q"])[0]
    for seed in range(5):
        image = drawn(50 + seed, 3, 6, 6)
        differences = np.abs(run(proto, image[None], optimise=optimise)[0] - by_hand(image, level)) / step
        # a number that lies on the border of two levels may fall to either side
        assert differences.max() <= 2.01
        assert (differences > 0.01).mean() <= 0.02


def test_every_operator_that_has_an_integer_form_runs_in_it(tmp_path: Path) -> None:
    session(quantised(model_of(SUM_OF_TWO, WEIGHTS), SUM_RANGES), optimise=True, save_to=tmp_path / "optimised.onnx")
    found = Counter(node.op_type for node in onnx.load_model(str(tmp_path / "optimised.onnx")).graph.node)
    assert (found["QLinearConv"], found["QLinearAdd"], found["Neg"]) == (3, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 1)
    assert not found["Conv"] + found["Add"] + found["Relu"]


MOVES = """
g (float[1, 3, 6, 6] x) => (float[1, 4] y) {
    a = Conv <pads = [1, 1, 1, 1]> (x, w1)
    r = Relu (a)
    m = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (r)
    f = Flatten (m)
    y = Gemm <transB = TRANSPOSED> (f, w2, b)
}
"""


@pytest.mark.parametrize("transposed", [0, 1])
def test_pooling_and_flattening_move_integers_as_they_are(transposed: int, tmp_path: Path) -> None:
    weight = drawn(2, 4, 45)
    given = {"w1": drawn(1, 5, 3, 3, 3), "w2": weight if transposed else weight.T.copy(), "b": drawn(3, 4)}
    model = model_of(MOVES.replace("TRANSPOSED", str(transposed)), given)
    image = drawn(4, 1, 3, 6, 6)
    wanted = run(ir.to_proto(model), image, optimise=False)
    assert quantised_values(model.graph) == ["x", "r"]
    proto = quantised(model, {"x": (-1.0, 1.0), "r": (0.0, 4.0)})
    assert constants(proto)["w2.scale"].shape == (4,)
    assert relative_error(run(proto, image, optimise=True), wanted) <= 0.02
    session(proto, optimise=True, save_to=tmp_path / "optimised.onnx")
    found = Counter(node.op_type for node in onnx.load_model(str(tmp_path / "optimised.onnx")).graph.node)
    assert (found["QLinearConv"], found["QGemm"], found["MaxPool"] + found["NhwcMaxPool"]) == (1, 1, 1)
    assert (found["QuantizeLinear"], found["DequantizeLinear"]) == (1, 0)


def test_numbers_beyond_a_range_become_its_ends() -> None:
    text = "g (float[1, 1, 1, 3] x) => (float[1, 1, 1, 3] y) { y = Conv (x, w) }"
    proto = quantised(model_of(text, {"w": np.ones((1, 1, 1, 1), np.float32)}), {"x": (-1.0, 1.0)})
    y = run(proto, np.array([-3.0, 0.0, 9.0], np.float32).reshape(1, 1, 1, 3), optimise=False)
    np.testing.assert_allclose(y.ravel(), [-1.0, 0.0, 1.0], atol=1.01 / 255)
    assert y.ravel()[1] == 0.0  # zero is a level, so that padding is exact


def test_a_channel_without_weights_keeps_its_bias() -> None:
    weight = drawn(1, 2, 1, 1, 1)
    weight[0] = 0.0
    text = "g (float[1, 1, 1, 3] x) => (float[1, 2, 1, 3] y) { y = Conv (x, w, b) }"
    proto = quantised(model_of(text, {"w": weight, "b": np.array([7.0, 0.0], np.float32)}), {"x": (-1.0, 1.0)})
    y = run(proto, drawn(2, 1, 1, 1, 3), optimise=True)
    np.testing.assert_allclose(y[0, 0].ravel(), 7.0, rtol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e10])
def test_weights_that_no_8_bits_fit_are_refused(value: float) -> None:
    model = model_of(SUM_OF_TWO, {**WEIGHTS, "w3": np.full((4, 3, 1, 1), value, np.float32)})
    with pytest.raises(BundleError, match=r"w3 holds weights that are not finite, or beyond 1e\+09"):
        InsertQuantisation(SUM_RANGES, 8)(model)


# --- a bundle


@pytest.fixture(scope="module")
def calibrated(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with ranges from its golden inputs. Read only."""
    return calibrated_copy(tiny_bundle, tmp_path_factory.mktemp("calibrated") / "bundle")


@pytest.mark.parametrize("bits", WIDTHS)
@pytest.mark.parametrize("i", range(5))
def test_each_operating_point_answers_about_as_in_float32(calibrated: Bundle, i: int, bits: WeightBits) -> None:
    inputs, outputs = calibrated.golden
    proto = quantised_point(calibrated, i, bits)
    logits = np.concatenate([run(proto, x[None], optimise=True) for x in inputs])
    error = relative_error(logits, outputs[i])
    assert 1e-4 < error <= 0.1
    as_written = np.concatenate([run(proto, x[None], optimise=False) for x in inputs])
    assert relative_error(logits, as_written) <= 0.02


class GoldenInputs(quantization.CalibrationDataReader):  # type: ignore[misc]  # onnxruntime ships no types
    def __init__(self, name: str, images: Array) -> None:
        self.images = iter([{name: x[None]} for x in images])

    def get_next(self) -> dict[str, Array] | None:
        return next(self.images, None)


@pytest.mark.parametrize("i", range(5))
def test_another_quantiser_comes_to_the_same_logits(calibrated: Bundle, i: int, tmp_path: Path) -> None:
    """ONNX Runtime's own, which rounds the logits too: to one of 256 levels, half a level away at most."""
    inputs, outputs = calibrated.golden
    model = linked(calibrated, i)
    onnx.save_model(model, str(tmp_path / "float.onnx"))
    quantization.quantize_static(
        str(tmp_path / "float.onnx"), str(tmp_path / "int8.onnx"), GoldenInputs(model.graph.input[0].name, inputs),
        op_types_to_quantize=["Conv", "Add", "Gemm", "Relu"], per_channel=True, reduce_range=False,
        activation_type=quantization.QuantType.QUInt8, weight_type=quantization.QuantType.QInt8,
    )  # fmt: skip
    theirs = onnx.load_model(str(tmp_path / "int8.onnx"))
    ours = quantised(ir.from_proto(model), ranges_on(model, inputs))
    both = [np.concatenate([run(proto, x[None], optimise=False) for x in inputs]) for proto in (ours, theirs)]
    level = (outputs[i].max() - outputs[i].min()) / 255
    assert np.abs(both[0] - both[1]).max() <= level


@pytest.mark.parametrize("bits", WIDTHS)
def test_operating_points_share_the_levels_of_their_weights(calibrated: Bundle, bits: WeightBits) -> None:
    """Statistics and scales of their own leave the int8 as it is; fewer output channels are a prefix of all."""
    full, full_floats = constants(quantised_point(calibrated, 4, bits)), constants(linked(calibrated, 4))
    shorter, scaled = 0, 0
    for i in range(4):
        small, floats = constants(quantised_point(calibrated, i, bits)), constants(linked(calibrated, i))
        for name in (name for name in floats if f"{name}.scale" in small and small[name].dtype == np.int8):
            kept = tuple(slice(n) for n in small[name].shape)
            np.testing.assert_array_equal(small[name], full[name][kept])
            shorter += small[name].shape != full[name].shape
            scaled += not np.array_equal(floats[name], full_floats[name][kept])
    assert shorter >= 3 and scaled >= 3


@pytest.mark.parametrize("factor", [0.25, 2.0])
def test_scaling_output_channels_keeps_the_bytes(factor: float) -> None:
    scaled = {**WEIGHTS, "w1": WEIGHTS["w1"] * np.float32(factor)}
    before, after = (constants(quantised(model_of(SUM_OF_TWO, w), SUM_RANGES)) for w in (WEIGHTS, scaled))
    assert after["w1"].tobytes() == before["w1"].tobytes()
    np.testing.assert_array_equal(after["w1.scale"], before["w1.scale"] * np.float32(factor))


# --- what is refused


def refuse(folder: Path, arrays: Mapping[str, npt.NDArray[Any]], message: str, i: int = 4) -> None:
    with_ranges(folder, arrays)
    bundle = open_bundle(folder)
    with pytest.raises(BundleError, match=re.escape(message)):
        quantised_point(bundle, i)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0.0, np.nan, "ranges.npz: stem/y holds a range that is not finite, or beyond 1e+09"),
        (-np.inf, 1.0, "ranges.npz: stem/y holds a range that is not finite, or beyond 1e+09"),
        (0.0, 3e38, "ranges.npz: stem/y holds a range that is not finite, or beyond 1e+09"),
        (1.0, 0.5, "ranges.npz: stem/y holds a range that ends before it begins"),
        (np.nan, np.nan, "ranges.npz: no range for stem/y at u=0.8; calibrate the bundle again"),
    ],
)
def test_unsound_range_is_refused(low: float, high: float, message: str, calibrated: Bundle, bundle_copy: Path) -> None:
    arrays = read_ranges(calibrated.path / RANGES, 5)
    arrays["stem/y"][4] = low, high
    refuse(bundle_copy, arrays, message)


def test_missing_range_is_refused(calibrated: Bundle, bundle_copy: Path) -> None:
    arrays = read_ranges(calibrated.path / RANGES, 5)
    del arrays["head/mean"]
    refuse(bundle_copy, arrays, "ranges.npz: no range for head/mean at u=0;", i=0)


@pytest.mark.parametrize("shape", [(4, 2), (6, 2), (5, 3), (5,), (5, 2, 1)])
def test_ranges_of_another_shape_are_refused(shape: tuple[int, ...], bundle_copy: Path) -> None:
    refuse(bundle_copy, {"x": np.zeros(shape, np.float32)}, f"x of shape {list(shape)}, not [5, 2]")


def test_ranges_of_another_type_are_refused(bundle_copy: Path) -> None:
    refuse(bundle_copy, {"x": np.zeros((5, 2))}, "x.npy holds float64, not float32")


def test_bundle_without_ranges_is_refused(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(BundleError, match=r"holds no ranges for int8; add them with python -m export\.int8"):
        quantised_point(bundle, 0)


def changed(bundle: Bundle, **values: Any) -> dict[str, Any]:
    spec = json.loads((bundle.path / "manifest.json").read_text())
    spec["quantisation"] |= values
    return dict(spec)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"float32_accuracy": [0.5] * 4}, "accuracy and agreement of 7 bits must have 4 operating points"),
        ({"kept": 1.5}, "quantisation.kept: Input should be less than or equal to 1"),
        ({"n_calibration": 0}, "quantisation.n_calibration: Input should be greater than or equal to 1"),
        ({"weights": []}, "quantisation.weights"),
    ],
)
def test_manifest_that_contradicts_itself_is_refused(
    values: dict[str, Any], message: str, calibrated: Bundle, bundle_copy: Path
) -> None:
    (bundle_copy / "manifest.json").write_text(json.dumps(changed(calibrated, **values)))
    with pytest.raises(SchemaError, match=re.escape(message)):
        open_bundle(bundle_copy)


def test_manifest_lists_the_file_of_ranges(calibrated: Bundle, bundle_copy: Path) -> None:
    fields = changed(calibrated)
    del fields["files"][RANGES]
    (bundle_copy / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(SchemaError, match=r"quantisation: file ranges\.npz is not listed under files"):
        open_bundle(bundle_copy)


def test_quantisation_has_the_operating_points_of_the_manifest(calibrated: Bundle, bundle_copy: Path) -> None:
    rows = [0.5] * 4
    weights = [{"bits": b, "tolerance": 0.1, "accuracy": rows, "agreement": rows} for b in (7, 8)]
    fields = changed(calibrated, float32_accuracy=rows, weights=weights)
    (bundle_copy / "manifest.json").write_text(json.dumps(fields))
    with pytest.raises(SchemaError, match="quantisation has 4 operating points, the manifest 5"):
        open_bundle(bundle_copy)


def test_both_widths_must_be_measured_in_order(calibrated: Bundle) -> None:
    spec = calibrated.manifest.quantisation
    assert spec is not None
    assert [spec.with_bits(bits).bits for bits in WIDTHS] == [7, 8]
    with pytest.raises(ValueError, match="weights must be measured with 7 and with 8 bits, in this order"):
        QuantisationSpec.model_validate(spec.model_dump() | {"weights": spec.weights[::-1]})


# --- the width of the weights


@pytest.mark.parametrize(
    ("features", "architecture", "bits"),
    [
        (("avx", "avx2", "fma"), "x86_64", 7),
        (("avx512f", "avx512bw"), "x86_64", 7),
        ((), "AMD64", 7),
        (("avx2", "avx_vnni"), "x86_64", 8),
        (("avx512f", "avx512_vnni"), "x86_64", 8),
        (("asimd", "asimddp"), "aarch64", 8),
        (("asimd",), "armv7l", 8),
    ],
)
def test_weights_have_the_bits_that_the_cpu_computes_exactly(
    features: tuple[str, ...], architecture: str, bits: int
) -> None:
    assert weight_bits(features, architecture) == bits


def test_two_products_fit_in_16_bits_with_the_weights_of_7() -> None:
    levels = constants(quantised(model_of(SUM_OF_TWO, WEIGHTS), SUM_RANGES, 7))["w1"]
    assert np.abs(levels.astype(int)).max() == 64
    assert 2 * 255 * 64 <= np.iinfo(np.int16).max < 2 * 255 * 127
