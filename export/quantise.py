"""Measure what a bundle needs to run in 8-bit integers: the ranges of its activations, and what the rounding costs.

Everything goes through the linked graphs and ONNX Runtime, as on the device, so a finished bundle is enough.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir
import onnxruntime
import torch
from rich.console import Console
from rich.progress import track

from export.card import with_quantisation
from tnn_edge.bundle import Bundle, FileSpec, Manifest, OperatingPoint, QuantisationSpec, open_bundle
from tnn_edge.bundle.quantisation import RANGES, QuantisedWeights, WeightBits
from tnn_edge.bundle.reading import MANIFEST, file_sha256
from tnn_edge.errors import BundleError, DatasetError
from tnn_edge.nn.dataset import ImageSet
from tnn_edge.nn.image_tree import ImageTree
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.passes.insert_qdq import InsertQuantisation, quantised_values
from tnn_edge.runtime.providers import SessionSettings, open_session, session_options

__all__ = ["N_CALIBRATION", "add_quantisation", "choose_images"]

N_CALIBRATION: Final = 512

_KEPT: Final = (1.0, 0.99, 0.9)
"""Ranges to choose from: from the least to the largest number, or without the images that reach farthest."""
_WIDTHS: Final[tuple[WeightBits, WeightBits]] = (7, 8)
_MARGIN: Final = 1.5
"""From the largest error on golden inputs to the declared bound: another CPU adds in another order, which moves what
lies between two levels to the other one."""
_BATCH: Final = 64

Floats = npt.NDArray[np.float32]
Extremes = Mapping[str, Floats]
Ranges = Mapping[str, tuple[float, float]]
T = TypeVar("T")


@dataclass(frozen=True)
class Answers:
    """Logits of one operating point on held-out images, shape [N, classes], and the error on golden inputs."""

    logits: Floats
    golden_error: float


def choose_images(training: ImageSet | ImageTree, n: int) -> tuple[ImageSet, ImageSet]:
    """Two sets of at most n training images each, evenly spread, none in both: to calibrate on, and to choose by.

    Raises:
        DatasetError: there are fewer than two.
    """
    n = min(n, len(training) // 2)
    if n < 1:
        raise DatasetError(f"calibration needs 2 training images or more, there are {len(training)}")
    chosen = torch.arange(2 * n) * len(training) // (2 * n)
    return _in_memory(training.take(chosen[::2])), _in_memory(training.take(chosen[1::2]))


def _in_memory(images: ImageSet | ImageTree) -> ImageSet:
    return images.load() if isinstance(images, ImageTree) else images


def add_quantisation(
    folder: Path, training: ImageSet | ImageTree, held_out: ImageSet, n_calibration: int = N_CALIBRATION
) -> Manifest:
    """Add ranges, and the accuracy with them, to the bundle in a folder.

    The ranges are chosen among a few by the float32 network's own logits on training images, so that the held-out ones
    stay unseen.

    Args:
        folder: of a bundle; its manifest, model card and ranges are written anew.
        training: images that the network was trained on.
        held_out: images that it was not, to measure accuracy on.
        n_calibration: training images to measure ranges on; as many again choose among them.

    Raises:
        BundleError: an unsound bundle, or one that gives numbers that are not finite.
        DatasetError: fewer than two training images.
    """
    bundle = open_bundle(folder)
    points = bundle.manifest.operating_points
    calibration, judges = choose_images(training, n_calibration)
    extremes = [_extremes(bundle, point, calibration) for point in _track(points, "ranges of activations")]
    errors = [
        _logit_errors(bundle, point, found, judges)
        for point, found in _track(list(zip(points, extremes, strict=True)), "choice of ranges")
    ]
    kept = _KEPT[int(np.argmin(np.mean(errors, axis=0)))]
    ranges = [_ranges(found, kept) for found in extremes]
    _write_ranges(folder / RANGES, ranges)
    targets = held_out.targets.numpy()
    rows = [_answers(bundle, i, ranges[i], held_out) for i in _track(list(range(len(points))), "int8 accuracy")]
    spec = QuantisationSpec(
        n_calibration=len(calibration),
        kept=kept,
        n_images=len(held_out),
        float32_accuracy=tuple(_share(row[None].logits.argmax(axis=1) == targets) for row in rows),
        weights=(_weights(7, rows, targets), _weights(8, rows, targets)),
    )
    return _rewrite(folder, bundle.manifest.model_copy(update={"quantisation": spec}))


def _track(items: Sequence[T], what: str) -> Iterator[T]:
    yield from track(items, what, console=Console(stderr=True))


def _batches(bundle: Bundle, images: ImageSet) -> Iterator[Floats]:
    """Preprocessed images, each [1, 3, H, W]."""
    spec = bundle.manifest.input
    for x, _ in images.batches(_BATCH, mean=spec.mean, std=spec.std):
        yield from np.ascontiguousarray(x.numpy())[:, None]


def _session(graph: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = session_options(SessionSettings(), optimise=True)
    # without it, an x86 without 8-bit dot products would saturate where weights have 8 bits
    options.add_session_config_entry("session.x64quantprecision", "1")
    return open_session(graph.SerializeToString(), options, "cpu")


def _run(session: onnxruntime.InferenceSession, bundle: Bundle, images: Iterator[Floats]) -> Floats:
    return np.concatenate([session.run([bundle.manifest.output], {bundle.manifest.input.name: x})[0] for x in images])


def _extremes(bundle: Bundle, point: OperatingPoint, images: ImageSet) -> dict[str, Floats]:
    """Value -> least and largest number for each image, shape [N, 2]."""
    linked = link(bundle, point.gates, max(_WIDTHS))
    names = quantised_values(linked.graph)
    watched = ir.to_proto(linked)
    input_name = bundle.manifest.input.name
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names if name != input_name
    )
    session = _session(watched)
    given = [value.name for value in session.get_outputs()]
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for x in _batches(bundle, images):
        values = dict(zip(given, session.run(given, {input_name: x}), strict=True)) | {input_name: x}
        for name, seen in found.items():
            seen.append((float(values[name].min()), float(values[name].max())))
    arrays = {name: np.array(seen, np.float32) for name, seen in found.items()}
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise BundleError(f"{bundle.path}: {name} is not finite on a training image; train the network again")
    return arrays


def _ranges(extremes: Extremes, kept: float) -> Ranges:
    """Value -> its range, that on a share of the images is left neither below nor above."""
    return {
        name: (float(np.quantile(seen[:, 0], 1 - kept)), float(np.quantile(seen[:, 1], kept)))
        for name, seen in extremes.items()
    }


def _graph(bundle: Bundle, point: OperatingPoint, ranges: Ranges, bits: WeightBits | None) -> onnx.ModelProto:
    """The linked graph of an operating point, in float32 or with weights of so many bits."""
    model = link(bundle, point.gates, bits)
    if bits is not None:
        InsertQuantisation(ranges, bits)(model)
    return ir.to_proto(model)


def _logit_errors(bundle: Bundle, point: OperatingPoint, extremes: Extremes, images: ImageSet) -> list[float]:
    """For each of `_KEPT`: root mean square of what rounding does to the logits, as a share of the logits' own."""
    wanted = _run(_session(_graph(bundle, point, {}, None)), bundle, _batches(bundle, images))
    errors = []
    for kept in _KEPT:
        session = _session(_graph(bundle, point, _ranges(extremes, kept), min(_WIDTHS)))
        change = _run(session, bundle, _batches(bundle, images)) - wanted
        errors.append(float(np.sqrt(np.square(change).mean() / np.square(wanted).mean())))
    return errors


def _answers(bundle: Bundle, index: int, ranges: Ranges, images: ImageSet) -> dict[WeightBits | None, Answers]:
    """What an operating point answers in float32 (None) and with weights of so many bits."""
    inputs, outputs = bundle.golden
    found: dict[WeightBits | None, Answers] = {}
    for bits in (None, *_WIDTHS):
        session = _session(_graph(bundle, bundle.manifest.operating_points[index], ranges, bits))
        golden = _run(session, bundle, iter(inputs[:, None]))
        error = float(np.abs(golden - outputs[index]).max() / np.abs(outputs[index]).max())
        found[bits] = Answers(_run(session, bundle, _batches(bundle, images)), error)
    return found


def _weights(
    bits: WeightBits, rows: list[dict[WeightBits | None, Answers]], targets: npt.NDArray[np.int64]
) -> QuantisedWeights:
    answers = [row[bits].logits.argmax(axis=1) for row in rows]
    floats = [row[None].logits.argmax(axis=1) for row in rows]
    return QuantisedWeights(
        bits=bits,
        tolerance=_bound(max(row[bits].golden_error for row in rows)),
        accuracy=tuple(_share(each == targets) for each in answers),
        agreement=tuple(_share(each == wanted) for each, wanted in zip(answers, floats, strict=True)),
    )


def _bound(error: float) -> float:
    """With its margin, rounded up to a hundredth."""
    return min(1.0, math.ceil(error * _MARGIN * 100) / 100)


def _share(is_so: npt.NDArray[np.bool_]) -> float:
    return round(float(is_so.mean()), 4)


def _write_ranges(path: Path, ranges: Sequence[Ranges]) -> None:
    """Value -> [P, 2], not a number where an operating point does not compute it."""
    names = dict.fromkeys(name for point in ranges for name in point)
    nowhere = (math.nan, math.nan)
    arrays: dict[str, Any] = {
        name: np.array([point.get(name, nowhere) for point in ranges], np.float32) for name in names
    }
    np.savez_compressed(path, **arrays)


def _rewrite(folder: Path, manifest: Manifest) -> Manifest:
    card = folder / "README.md"
    card.write_text(with_quantisation(card.read_text() if card.exists() else f"# {manifest.name}\n", manifest))
    changed = {
        path.name: FileSpec(bytes=path.stat().st_size, sha256=file_sha256(path)) for path in (card, folder / RANGES)
    }
    manifest = Manifest.model_validate(
        manifest.model_copy(update={"files": {**manifest.files, **changed}}).model_dump()
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=1) + "\n")
    return manifest
