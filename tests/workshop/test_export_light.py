"""Accuracy by light: calibration error against hand-computed cases, the exported table against the runtime."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import export.__main__
import tnn_edge
from export.bundle import finished_folder
from export.light import LEVELS_LUX, evenly_spread, measure_light, seen_by
from tests.workshop.conftest import LABELS, Exported, colours, small_recipe
from tnn_edge.bundle import open_bundle
from tnn_edge.cli.program import program
from tnn_edge.nn.calibration import expected_calibration_error
from tnn_edge.nn.checkpoint import load_network, read_run, read_statistics_table, write_run
from tnn_edge.nn.dataset import ImageSet, normalised
from tnn_edge.plant import ImageSensor
from train.untrained import write_untrained

# --- calibration error


def error_of(confidence: Sequence[float], is_right: Sequence[bool], n_bins: int = 15) -> float:
    return expected_calibration_error(torch.tensor(confidence), torch.tensor(is_right), n_bins)


def test_calibration_error_of_a_case_computed_by_hand() -> None:
    """Two bins: (0, 1/2] has confidence 0.3 and accuracy 1/2, (1/2, 1] confidence 0.8 and accuracy 2/3."""
    error = error_of([0.2, 0.4, 0.7, 0.8, 0.9], [True, False, True, True, False], n_bins=2)
    assert error == pytest.approx(2 / 5 * (1 / 2 - 0.3) + 3 / 5 * (0.8 - 2 / 3))


def test_calibration_error_does_not_cancel_between_bins() -> None:
    confidence, is_right = [0.25, 0.75], [True, False]  # mean confidence is the accuracy
    assert error_of(confidence, is_right) == pytest.approx(0.75)
    assert error_of(confidence, is_right, n_bins=1) == pytest.approx(0.0)


def test_confidence_on_an_edge_belongs_to_the_bin_below() -> None:
    """Guo et al.: bin m is ((m - 1) / M, m / M]; 0.5 with 0.4, not with 0.6."""
    assert error_of([0.4, 0.5, 0.6], [False, True, True], n_bins=2) == pytest.approx(
        2 / 3 * abs(0.45 - 1 / 2) + 1 / 3 * (1 - 0.6)
    )


def plain_error(confidence: Sequence[float], is_right: Sequence[bool]) -> float:
    """The definition, image by image, in 15 bins."""
    bins: dict[int, list[tuple[float, bool]]] = defaultdict(list)
    for sure, right in zip(confidence, is_right, strict=True):
        bins[min(m for m in range(15) if sure <= (m + 1) / 15)].append((sure, right))
    return sum(
        len(each) / len(confidence) * abs(sum(r for _, r in each) / len(each) - sum(c for c, _ in each) / len(each))
        for each in bins.values()
    )


@given(st.lists(st.tuples(st.floats(2**-7, 1.0, width=32), st.booleans()), min_size=1, max_size=60))
def test_calibration_error_is_that_of_the_plain_definition(answers: list[tuple[float, bool]]) -> None:
    confidence, is_right = zip(*answers, strict=True)
    assert error_of(confidence, is_right) == pytest.approx(plain_error(confidence, is_right), abs=1e-9)


# --- the exported table


def held_out(exported: Exported) -> ImageSet:
    return colours(256).hold_out(exported.recipe.data.held_out)[1]


@pytest.mark.parametrize("name", ["resnext_w", "shared"])
def test_exported_table_is_what_the_runtime_answers_to_pictures_of_the_sensor(
    name: str, request: pytest.FixtureRequest
) -> None:
    exported: Exported = request.getfixturevalue(name)
    data = held_out(exported)
    light = open_bundle(exported.bundle).manifest.light
    assert light is not None
    assert light.n_images == len(data) == 32
    with tnn_edge.load(exported.bundle, device="cpu") as engine:
        for lux in (LEVELS_LUX[0], 3.0, LEVELS_LUX[-1]):
            level = light.lux.index(lux)
            noisy = ImageSensor().capture(data.images.numpy(), lux, np.random.default_rng(0))
            x = normalised(torch.from_numpy(noisy), exported.recipe.data.mean, exported.recipe.data.std).numpy()
            for index, point in enumerate(engine.points):
                logits = np.concatenate([engine.run(image[None], point.u).logits for image in x]).astype(np.float64)
                likely = np.exp(logits - logits.max(axis=1, keepdims=True))
                confidence = likely.max(axis=1) / likely.sum(axis=1)
                is_right = logits.argmax(axis=1) == data.targets.numpy()
                assert light.accuracy[index][level] == round(is_right.mean(), 4)
                assert light.confidence[index][level] == pytest.approx(confidence.mean(), abs=2e-4)
                error = plain_error(confidence.tolist(), is_right.tolist())
                assert light.calibration_error[index][level] == pytest.approx(error, abs=2e-3)


def test_table_has_the_levels_and_the_points(exported: Exported) -> None:
    manifest = open_bundle(exported.bundle).manifest
    assert manifest.light is not None
    assert manifest.light.lux == LEVELS_LUX
    assert len(manifest.light.accuracy) == len(manifest.operating_points)
    assert manifest.light.sensor["full_well"] == ImageSensor().full_well


def test_measuring_again_gives_the_same_table(resnext_w: Exported) -> None:
    network, description = load_network(resnext_w.run), read_run(resnext_w.run)
    points = [gates for _, gates in network.schedule.operating_points(resnext_w.recipe.seed)]
    statistics = read_statistics_table(resnext_w.run, network)
    again = measure_light(network, description, points, statistics, held_out(resnext_w))
    assert again == open_bundle(resnext_w.bundle).manifest.light


def test_numbers_in_the_manifest_are_short(resnext_w: Exported) -> None:
    light = json.loads((resnext_w.bundle / "manifest.json").read_text())["light"]
    shares = [value for name in ("accuracy", "confidence", "calibration_error") for row in light[name] for value in row]
    assert max(len(str(value)) for value in [*shares, *light["sensor"].values()]) <= len("0.016667")


def test_sensor_changes_pictures_and_nothing_else() -> None:
    data = colours(8)
    seen = seen_by(ImageSensor(), data, 10.0)
    assert (seen.images.shape, seen.images.dtype) == (data.images.shape, torch.uint8)
    assert not torch.equal(seen.images, data.images)
    assert torch.equal(seen.targets, data.targets)
    assert torch.equal(seen.images, seen_by(ImageSensor(), data, 10.0).images)
    assert not torch.equal(seen.images, seen_by(ImageSensor(), data, 10.0, seed=1).images)


@pytest.mark.parametrize(
    ("n", "chosen"), [(1, [0]), (2, [0, 5]), (4, [0, 2, 5, 7]), (10, list(range(10))), (99, list(range(10)))]
)
def test_images_are_spread_evenly(n: int, chosen: list[int]) -> None:
    data = colours(10)
    assert evenly_spread(data, n).names == tuple(data.names[i] for i in chosen)


def test_picture_and_card_belong_to_the_bundle(resnet_d: Exported) -> None:
    manifest = open_bundle(resnet_d.bundle).manifest
    assert "light.png" in manifest.files
    assert (resnet_d.bundle / "light.png").read_bytes().startswith(b"\x89PNG")
    card = (resnet_d.bundle / "README.md").read_text()
    assert "](light.png)" in card
    assert "From 1200 lux on, auto-exposure keeps the picture the same; below 19 lux" in card
    assert manifest.light is not None
    for point, row, error in zip(
        manifest.operating_points, manifest.light.accuracy, manifest.light.calibration_error, strict=True
    ):
        assert f"| {point.u:.4f} | {' | '.join(f'{v:.4f}' for v in (*row, error[-1]))} |" in card


def test_bundle_with_its_picture_can_be_replaced(resnet_d: Exported, tmp_path: Path) -> None:
    shutil.copytree(resnet_d.bundle, tmp_path / "bundle")
    with finished_folder(tmp_path / "bundle", overwrite=True) as folder:
        (folder / "new").touch()
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["new"]


# --- the program


def call(*args: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["export", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        program(export.__main__.main)
    code = stop.value.code
    assert isinstance(code, int)
    return code


@pytest.fixture
def small_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A network of one block with random weights, because every block takes seconds to export."""
    recipe = small_recipe("resnet_d")
    network = recipe.network.model_copy(update={"sizes": {"channels": [8], "blocks": [1], "n_classes": len(LABELS)}})
    write_untrained(recipe.model_copy(update={"network": network}), tmp_path / "run")
    write_run(tmp_path / "run", dataclasses.replace(read_run(tmp_path / "run"), labels=LABELS))
    monkeypatch.setattr("export.__main__.read_split", lambda data, split, **how: colours(256))
    return tmp_path / "run"


def test_export_prints_accuracy_by_light_and_its_progress(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = (small_run, "--out", tmp_path / "b", "--data", tmp_path, "--light-images", 5)
    assert call(*args, monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr()
    light = open_bundle(tmp_path / "b").manifest.light
    assert light is not None
    assert light.n_images == 5
    assert "accuracy by light" in printed.err
    assert "colours_resnet_d: accuracy by light on the scene, 5 held-out images" in printed.out
    rows = [line.split() for line in printed.out.splitlines() if line.startswith("│ 30 ")]
    level = light.lux.index(30.0)
    assert [row[3::2] for row in rows] == [
        [f"{row[level]:.4f}" for row in values] for values in (light.accuracy, light.calibration_error)
    ]
    first, last = light.calibration_error[0][-1], light.calibration_error[-1][-1]
    assert f"Calibration error at 200000 lux: {first:.4f} at u 0.00, {last:.4f} at u = 1.\n" in printed.out


def test_no_image_makes_no_table(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = (small_run, "--out", tmp_path / "b", "--data", tmp_path, "--light-images", 0)
    assert call(*args, monkeypatch=monkeypatch) == 0
    assert "light" not in "".join(capsys.readouterr())
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.light is None
    assert manifest.operating_points[0].accuracy is not None
    assert "light.png" not in manifest.files
    assert "by light" not in (tmp_path / "b" / "README.md").read_text()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--light-images", "5"], "name the data folder that holds the images"),
        (["--light-images", "-1"], "Invalid value for '--light-images'"),
    ],
)
def test_wrong_number_of_images_is_a_usage_error(
    args: list[str], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "200")
    assert call(tmp_path / "run", "--out", tmp_path / "b", *args, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
