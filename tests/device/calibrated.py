"""Ranges for 8-bit integers, measured with ONNX Runtime on the golden inputs that a bundle brings along."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime

from tests.device.damage import rewrite
from tests.device.graphs import Array
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.quantisation import RANGES, WeightBits
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.passes.insert_qdq import quantised_values
from tnn_edge.runtime.linking.quantise import quantise

WIDTHS: tuple[WeightBits, WeightBits] = (7, 8)
_MARGIN = 1.5  # from the error that was seen to the one that is declared


def session(model: onnx.ModelProto, *, optimise: bool, save_to: Path | None = None) -> onnxruntime.InferenceSession:
    levels = onnxruntime.GraphOptimizationLevel
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    options.add_session_config_entry("session.x64quantprecision", "1")  # 8-bit weights do not saturate either
    if save_to is not None:
        options.optimized_model_filepath = str(save_to)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def linked(bundle: Bundle, i: int, bits: WeightBits | None = None) -> onnx.ModelProto:
    return ir.to_proto(link(bundle, bundle.manifest.operating_points[i].gates, bits))


def quantised_point(bundle: Bundle, i: int, bits: WeightBits = 8) -> onnx.ModelProto:
    point = bundle.manifest.operating_points[i]
    model = link(bundle, point.gates, bits)
    quantise(model, bundle, point, bits)
    return ir.to_proto(model)


def ranges_on(model: onnx.ModelProto, images: Array) -> dict[str, tuple[float, float]]:
    """Least and largest number of each value that a quantised graph rounds, seen on images."""
    names = quantised_values(ir.from_proto(model).graph)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    (given,) = (value.name for value in model.graph.input)
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in names if n != given)
    running = session(watched, optimise=False)
    outputs = [value.name for value in running.get_outputs()]
    seen = [dict(zip(outputs, running.run(None, {given: x[None]}), strict=True)) | {given: x} for x in images]
    return {n: (min(float(s[n].min()) for s in seen), max(float(s[n].max()) for s in seen)) for n in names}


def measured_ranges(bundle: Bundle) -> dict[str, npt.NDArray[np.float32]]:
    """Value -> its range at each operating point, shape [P, 2], not a number where a point does not compute it."""
    rows = [ranges_on(linked(bundle, i, 8), bundle.golden[0]) for i in range(len(bundle.manifest.operating_points))]
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, (np.nan, np.nan)) for row in rows], np.float32) for name in names}


def with_ranges(
    folder: Path, arrays: Mapping[str, npt.NDArray[Any]], tolerances: Mapping[WeightBits, float] | None = None
) -> None:
    """Write ranges into a bundle, and the errors that its manifest declares: by default 10 %."""
    file = io.BytesIO()
    entries: dict[str, Any] = dict(arrays)
    np.savez(file, **entries)
    rewrite(folder, RANGES, file.getvalue())
    manifest = json.loads((folder / "manifest.json").read_text())
    shares = [0.5] * len(manifest["operating_points"])
    declared = tolerances or dict.fromkeys(WIDTHS, 0.1)
    manifest["quantisation"] = {
        "n_calibration": 4, "kept": 1.0, "n_images": 4, "float32_accuracy": shares,
        "weights": [{"bits": b, "tolerance": declared[b], "accuracy": shares, "agreement": shares} for b in WIDTHS],
    }  # fmt: skip
    (folder / "manifest.json").write_text(json.dumps(manifest))


def calibrated_copy(source: Path, folder: Path) -> Bundle:
    """A copy of a bundle with ranges, which declares the largest error on one golden input, with a margin."""
    shutil.copytree(source, folder)
    ranges = measured_ranges(open_bundle(folder))
    with_ranges(folder, ranges)
    bundle = open_bundle(folder)
    with_ranges(folder, ranges, {bits: _MARGIN * _largest_error(bundle, bits) for bits in WIDTHS})
    return open_bundle(folder)


def _largest_error(bundle: Bundle, bits: WeightBits) -> float:
    inputs, outputs = bundle.golden
    errors = []
    for i in range(len(bundle.manifest.operating_points)):
        running = session(quantised_point(bundle, i, bits), optimise=False)
        logits = np.concatenate([running.run(None, {bundle.manifest.input.name: x[None]})[0] for x in inputs])
        errors.append(float((np.abs(logits - outputs[i]).max(axis=1) / np.abs(outputs[i]).max(axis=1)).max()))
    return max(errors)
