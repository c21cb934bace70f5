"""Adding int8 to a bundle: what is measured, on which images, and what the program writes."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

import export.__main__
import export.int8
from export.quantise import add_quantisation, choose_images
from tests.workshop.conftest import Exported, colours
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.quantisation import RANGES, WeightBits, read_ranges
from tnn_edge.bundle.structure import check_structure
from tnn_edge.cli.program import program
from tnn_edge.errors import DatasetError
from tnn_edge.nn.checkpoint import load_network, operating_points, read_run, read_statistics_table, use_point
from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.passes.insert_qdq import quantised_values
from tnn_edge.runtime.linking.quantise import quantise

N_CALIBRATION = 16


def split(exported: Exported) -> tuple[ImageSet, ImageSet]:
    """Training and held-out images of the run."""
    return colours(256).hold_out(exported.recipe.data.held_out)


@pytest.fixture(scope="module")
def quantised(shared: Exported, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The widthwise network with shared statistics, with ranges. Read only."""
    folder = tmp_path_factory.mktemp("int8") / "bundle"
    shutil.copytree(shared.bundle, folder)
    training, held_out = split(shared)
    add_quantisation(folder, training, held_out, N_CALIBRATION)
    return open_bundle(folder)


def quantised_point(bundle: Bundle, i: int, bits: WeightBits) -> ir.Model:
    point = bundle.manifest.operating_points[i]
    model = link(bundle, point.gates, bits)
    quantise(model, bundle, point, bits)
    return model


def logits(model: ir.Model, images: torch.Tensor) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Without optimisation: float32 with rounding written out, which saturates nowhere."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    written = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(written, options, providers=["CPUExecutionProvider"])
    (name,) = (value.name for value in session.get_inputs())
    return np.concatenate([session.run(None, {name: x[None]})[0] for x in images.numpy()])


def test_accuracy_and_agreement_are_those_of_the_quantised_graphs(shared: Exported, quantised: Bundle) -> None:
    spec = quantised.manifest.quantisation
    assert spec is not None
    _, held_out = split(shared)
    assert (spec.n_calibration, spec.n_images) == (N_CALIBRATION, len(held_out))
    x = normalised(held_out.images, shared.recipe.data.mean, shared.recipe.data.std)
    widths: tuple[WeightBits, WeightBits] = (7, 8)
    for i, point in enumerate(quantised.manifest.operating_points):
        floats = logits(link(quantised, point.gates), x).argmax(axis=1)
        assert spec.float32_accuracy[i] == point.accuracy
        for bits in widths:
            answers = logits(quantised_point(quantised, i, bits), x).argmax(axis=1)
            measured = spec.with_bits(bits)
            one_image = 1.01 / len(held_out)  # whose two likeliest classes a rounding may exchange
            right = (answers == held_out.targets.numpy()).mean()
            assert measured.accuracy[i] == pytest.approx(right, abs=one_image)
            assert measured.agreement[i] == pytest.approx((answers == floats).mean(), abs=one_image)


@pytest.mark.parametrize("bits", [7, 8])
def test_golden_outputs_lie_within_the_declared_tolerance(bits: WeightBits, quantised: Bundle) -> None:
    assert quantised.manifest.quantisation is not None
    inputs, outputs = quantised.golden
    errors = []
    for i in range(len(quantised.manifest.operating_points)):
        answers = logits(quantised_point(quantised, i, bits), torch.from_numpy(inputs))
        errors.append(float(np.abs(answers - outputs[i]).max() / np.abs(outputs[i]).max()))
    tolerance = quantised.manifest.quantisation.with_bits(bits).tolerance
    assert max(errors) <= tolerance <= 1.6 * max(errors) + 0.01


def test_ranges_are_what_pytorch_sees_on_the_calibration_images(shared: Exported, quantised: Bundle) -> None:
    """Of the input, and of the output of the stem with weights on 127 levels to either side."""
    assert quantised.manifest.quantisation is not None
    kept = quantised.manifest.quantisation.kept
    calibration, _ = choose_images(split(shared)[0], N_CALIBRATION)
    ranges = read_ranges(quantised.path / RANGES, len(quantised.manifest.operating_points))
    network, description = load_network(shared.run), read_run(shared.run)
    points, table = operating_points(description, network), read_statistics_table(shared.run, network)
    x = normalised(calibration.images, description.mean, description.std)
    assert network.stem is not None
    with torch.no_grad():
        weight = next(module.weight for module in network.stem.modules() if isinstance(module, torch.nn.Conv2d))
        scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        weight.copy_((weight / scale).round() * scale)
    for i in range(len(points)):
        use_point(network, table, i)
        with torch.no_grad():
            seen = {"x": x, "stem/y": network.stem(x)}
        for name, values in seen.items():
            flat = values.flatten(1).double().numpy()
            expected = np.quantile(flat.min(axis=1), 1 - kept), np.quantile(flat.max(axis=1), kept)
            np.testing.assert_allclose(ranges[name][i], expected, rtol=1e-4, atol=1e-5)


def test_an_operating_point_has_the_ranges_of_what_it_rounds(quantised: Bundle) -> None:
    points = quantised.manifest.operating_points
    ranges = read_ranges(quantised.path / RANGES, len(points))
    asked = [quantised_values(link(quantised, point.gates).graph) for point in points]
    assert len(asked[0]) < len(asked[-1])
    for i, names in enumerate(asked):
        assert {name for name, values in ranges.items() if np.isfinite(values[i]).all()} == set(names)


def test_held_out_images_choose_nothing(shared: Exported, quantised: Bundle, tmp_path: Path) -> None:
    shutil.copytree(shared.bundle, tmp_path / "bundle")
    training, held_out = split(shared)
    others = ImageSet(
        images=255 - held_out.images, targets=held_out.targets, labels=held_out.labels, names=held_out.names
    )
    manifest = add_quantisation(tmp_path / "bundle", training, others, N_CALIBRATION)
    ours, theirs = (read_ranges(path / RANGES, 5) for path in (quantised.path, tmp_path / "bundle"))
    assert ours.keys() == theirs.keys()
    for name, values in ours.items():
        np.testing.assert_array_equal(values, theirs[name])
    assert manifest.quantisation is not None and quantised.manifest.quantisation is not None
    assert manifest.quantisation.kept == quantised.manifest.quantisation.kept
    assert manifest.quantisation.float32_accuracy != quantised.manifest.quantisation.float32_accuracy


@pytest.mark.parametrize(("n_images", "n", "chosen"), [(10, 2, 2), (10, 99, 5), (3, 9, 1)])
def test_images_to_calibrate_and_to_choose_by_are_others(n_images: int, n: int, chosen: int) -> None:
    both = choose_images(colours(n_images), n)
    assert [len(each) for each in both] == [chosen, chosen]
    assert not set(both[0].names) & set(both[1].names)


def test_calibration_needs_two_images() -> None:
    with pytest.raises(DatasetError, match="calibration needs 2 training images or more, there are 1"):
        choose_images(colours(1), 512)


def test_nothing_else_of_the_bundle_changes(shared: Exported, quantised: Bundle) -> None:
    before = open_bundle(shared.bundle).manifest
    after = quantised.manifest
    assert after.model_copy(update={"quantisation": None, "files": before.files}) == before
    assert {name for name in after.files if before.files.get(name) != after.files[name]} == {RANGES, "README.md"}
    check_structure(quantised)


def test_card_has_the_accuracies_beside_each_other(quantised: Bundle) -> None:
    spec = quantised.manifest.quantisation
    assert spec is not None
    card = (quantised.path / "README.md").read_text()
    seven, eight = spec.weights
    for i, point in enumerate(quantised.manifest.operating_points):
        shares = (spec.float32_accuracy, eight.accuracy, seven.accuracy, eight.agreement, seven.agreement)
        assert f"| {point.u:.4f} | {' | '.join(f'{column[i]:.4f}' for column in shares)} |" in card
    lost = [b - a for one in spec.weights for b, a in zip(spec.float32_accuracy, one.accuracy, strict=True)]
    if max(lost) > 0.01 + 1e-9:
        shown = re.findall(r"([\d.]+) at u = [\d.]+ with [78]-bit", card)
        assert [float(each) for each in shown] == [round(each, 4) for each in lost if each > 0.01 + 1e-9]
    else:
        assert "No point loses more than one percentage point of accuracy." in card
    titles = [line for line in card.splitlines() if line.startswith("## ")]
    assert titles == [
        "## Operating points", "## Accuracy by light", "## In 8-bit integers", "## How it was made", "## Licence",
    ]  # fmt: skip


# --- the programs


def call(main: object, *args: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["export", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        program(main)  # type: ignore[arg-type]  # a command
    code = stop.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("export.int8", "export.__main__"):
        monkeypatch.setattr(f"{place}.read_split", lambda data, split, **how: colours(256))


@pytest.mark.usefixtures("data")
def test_program_adds_int8_and_again_in_place(
    shared: Exported, quantised: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    digest = open_bundle(shared.bundle).digest
    args = ("--out", tmp_path / "b", "--data", tmp_path, "--calibration-images", N_CALIBRATION)
    assert call(export.int8.main, shared.bundle, *args, monkeypatch=monkeypatch) == 0
    made = open_bundle(tmp_path / "b").manifest
    assert made.quantisation == quantised.manifest.quantisation
    assert open_bundle(shared.bundle).digest == digest
    assert made.quantisation is not None
    printed = capsys.readouterr().out
    for row in zip(made.quantisation.float32_accuracy, made.quantisation.with_bits(8).accuracy, strict=True):
        assert "  ".join(f"{share:.4f}" for share in row) in printed
    fewer = ("--overwrite", "--accuracy-images", 7)
    assert call(export.int8.main, tmp_path / "b", *args, *fewer, monkeypatch=monkeypatch) == 0
    again = open_bundle(tmp_path / "b")
    assert again.manifest.quantisation is not None
    assert again.manifest.quantisation.n_images == 7
    assert (again.path / "README.md").read_text().count("## In 8-bit integers") == 1


@pytest.mark.usefixtures("data")
def test_bundle_of_a_recipe_that_holds_nothing_out_is_refused(
    shared: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shared.bundle, tmp_path / "bundle")
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    manifest["provenance"]["recipe"]["data"]["held_out"] = 0
    (tmp_path / "bundle" / "manifest.json").write_text(json.dumps(manifest))
    args = (tmp_path / "bundle", "--out", tmp_path / "b", "--data", tmp_path)
    assert call(export.int8.main, *args, monkeypatch=monkeypatch) == 1
    assert "its recipe holds out no images to measure on" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "b").exists()


def test_int8_without_data_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    args = (tmp_path / "run", "--out", tmp_path / "b", "--int8")
    assert call(export.__main__.main, *args, monkeypatch=monkeypatch) == 2
    assert "name the data folder that holds the images" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("data")
def test_export_with_int8_is_the_bundle_with_int8_added(
    shared: Exported, quantised: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    args = ("--out", tmp_path / "b", "--data", tmp_path, "--light-images", 0, "--int8")
    n = ("--calibration-images", N_CALIBRATION)
    assert call(export.__main__.main, shared.run, *args, *n, monkeypatch=monkeypatch) == 0
    assert open_bundle(tmp_path / "b").manifest.quantisation == quantised.manifest.quantisation
