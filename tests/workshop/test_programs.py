"""The workshop's command lines: help, the whole way, and one clear line for each mistake."""

from __future__ import annotations

import dataclasses
import json
import shlex
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import export.__main__
import export.int8
import export.static
import train.classifier
import train.curve
import train.gate
from export.commands import commands
from tests.workshop.conftest import Exported, as_toml, colours, small_recipe
from tnn_edge.bundle import Manifest, open_bundle
from tnn_edge.cli.program import program
from tnn_edge.nn.checkpoint import read_run, write_run
from train.recipe import Recipe

Program = Callable[..., None]


def call(main: Program, *args: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run a program in this process, as its `__main__` does; its exit code."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, args)])
    with pytest.raises(SystemExit) as stop:
        program(main)
    code = stop.value.code
    assert isinstance(code, int)
    return code


@pytest.mark.parametrize(
    ("main", "words"),
    [
        (train.classifier.main, ["--recipe", "--data", "--out", "--weights", "--resume", "--device", "--workers"]),
        (export.__main__.main, ["--out", "--data", "--licence", "--overwrite"]),
    ],
)
def test_help_names_the_arguments(
    main: Callable[..., None], words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(main, "--help", monkeypatch=monkeypatch) == 0
    printed = capsys.readouterr().out
    assert [word for word in words if word not in printed] == []


def test_a_program_runs_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "export.static", "--help"], capture_output=True, text=True, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [word for word in ("--u", "--out") if word not in done.stdout] == []


def write_recipe(path: Path, **sizes: Any) -> Path:
    fields = small_recipe("resnet_d", epochs=1).model_dump()
    fields["network"]["sizes"] |= sizes
    path.write_text(as_toml(Recipe.model_validate(fields)))
    return path


def write_tree(root: Path) -> Path:
    for split, seed in (("train", 0), ("test", 1)):
        data = colours(100, seed=seed)
        for name, image in zip(data.names, data.images, strict=True):
            path = root / name.replace("train/", f"{split}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return root


def test_the_whole_way_from_images_to_a_bundle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", channels=[8], blocks=[1])
    data = write_tree(tmp_path / "images")
    run, bundle = tmp_path / "run", tmp_path / "bundle"
    trained = ("--recipe", recipe, "--data", data, "--out", run)
    assert call(train.classifier.main, *trained, monkeypatch=monkeypatch) == 0
    assert call(train.classifier.main, *trained, "--resume", monkeypatch=monkeypatch) == 0
    assert call(train.curve.main, run, "--data", data, monkeypatch=monkeypatch) == 0
    assert call(export.__main__.main, run, "--out", bundle, "--data", data, monkeypatch=monkeypatch) == 0
    assert f"{bundle}: 3 blocks, 2 points" in capsys.readouterr().out
    manifest = open_bundle(bundle).manifest
    assert manifest.labels == ("blue", "green", "grey", "red")
    assert all(point.accuracy is not None for point in manifest.operating_points)
    assert manifest.provenance["training"]["data"] == "images"
    curves = json.loads((run / "curve.json").read_text())["curves"]
    assert (len(curves), len(curves[0]["points"]), curves[0]["images"]) == (1, 17, 100)


def test_untrained_network_is_exported_without_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml", channels=[8], blocks=[1], n_classes=7)
    untrained = ("--recipe", recipe, "--out", tmp_path / "run", "--untrained")
    assert call(train.classifier.main, *untrained, monkeypatch=monkeypatch) == 0
    assert "random weights" in read_run(tmp_path / "run").training["data"]
    assert call(export.__main__.main, tmp_path / "run", "--out", tmp_path / "b", monkeypatch=monkeypatch) == 0
    manifest = open_bundle(tmp_path / "b").manifest
    assert len(manifest.labels) == 7
    assert {point.accuracy for point in manifest.operating_points} == {None}


PROGRAMS: Mapping[str, Program] = {
    "train.classifier": train.classifier.main, "train.gate": train.gate.main, "export": export.__main__.main,
    "export.int8": export.int8.main,
}  # fmt: skip


def make(lines: Sequence[str], places: Mapping[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run programs one after the other, names such as DIR put in the place of what they stand for."""
    for line in lines:
        name, *words = shlex.split(line, comments=True)
        assert call(PROGRAMS[name], *(places.get(word, word) for word in words), monkeypatch=monkeypatch) == 0


GATED = """
train.classifier --recipe RECIPE --data DIR --out RUN --weights WEIGHTS
train.gate RUN --data DIR --out RUN2 --costs COSTS.json --lambda 1.23456789 --power 1 --penalty hinge --seed 5 \\
--images 33 --held-out 24 --epochs 2 --batch-size 16 --learning-rate 0.0123456789
export RUN2 --data DIR --out BUNDLE --light-images 5
export.int8 BUNDLE --data DIR --out BUNDLE8 --calibration-images 7 --accuracy-images 9
"""
UNTRAINED_WITH_IMAGES = """
train.classifier --recipe RECIPE --data DIR --out RUN --untrained
export RUN --data DIR --out BUNDLE --light-images 0 --int8 --calibration-images 9 --licence 'my own'
"""
UNTRAINED = """
train.classifier --recipe RECIPE --out RUN --untrained
export RUN --out BUNDLE
"""


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(GATED, id="gated"),
        pytest.param(UNTRAINED_WITH_IMAGES, id="untrained with images", marks=pytest.mark.slow),
        pytest.param(UNTRAINED, id="untrained"),
    ],
)
def test_commands_of_a_card_make_its_bundle_again(
    script: str, resnet_d: Exported, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    (tmp_path / "COSTS.json").write_text('{"stage1_block1": [3], "stage1_block2": [1], "stage2_block1": [2.5]}')
    given = {"DIR": tree, "RECIPE": recipe, "WEIGHTS": resnet_d.run / "checkpoint.safetensors"}
    names = ("RUN", "RUN2", "BUNDLE", "BUNDLE8", "COSTS.json")
    make(
        script.replace("\\\n", "").strip().splitlines(), given | {name: tmp_path / name for name in names}, monkeypatch
    )
    first = open_bundle(tmp_path / ("BUNDLE8" if "BUNDLE8" in script else "BUNDLE"))

    again = tmp_path / "again"
    again.mkdir()
    record = first.manifest.provenance["training"]
    (again / "COSTS.json").write_text(json.dumps(record.get("gate", {}).get("costs")))
    card = (first.path / "README.md").read_text()
    assert json.loads(card.partition("```json\n")[2].partition("```")[0]) == first.manifest.provenance["recipe"]
    told = [line.removeprefix("python -m ") for line in card.splitlines() if line.startswith("python -m ")]
    given = {"DIR": tree, f"train/recipes/{first.manifest.name}.toml": recipe}
    make(told, given | {name: again / name for name in names}, monkeypatch)
    second = open_bundle(again / ("BUNDLE8" if first.manifest.quantisation else "BUNDLE"))
    for array, other in zip(first.golden, second.golden, strict=True):
        assert np.array_equal(array, other)
    for field in set(Manifest.model_fields) - {"files", "provenance"}:
        assert getattr(second.manifest, field) == getattr(first.manifest, field), field


@pytest.mark.parametrize(
    ("cost", "option"),
    [(lambda _: 1.0, "uniform"), (lambda macs: macs, "macs"), (lambda macs: macs + 1.0, "COSTS.json")],
)
def test_gate_command_of_a_card_names_its_costs_and_its_data(
    shared: Exported, cost: Callable[[float], float], option: str
) -> None:
    manifest, run = open_bundle(shared.bundle).manifest, read_run(shared.run)
    gate = {
        "costs": {gate.name: [cost(macs) for macs in gate.weights] for gate in manifest.gates}, "data": "others",
        "method": "concrete", "controller": "blind", "penalty": {"kind": "dist", "power": 2, "lambda_": 10.0},
        "epochs": 3, "batch_size": 8, "learning_rate": 1e-3, "images": 64, "held_out": 32, "seed": 0,
        "starts_anew": option == "uniform",
    }  # fmt: skip
    _, command, exporting = commands(manifest, dataclasses.replace(run, training={**run.training, "gate": gate}))
    assert command.startswith("python -m train.gate RUN --data NEW --out RUN2 --method concrete --controller blind ")
    assert f" --costs {option} " in command
    assert ("# RUN had a learned gate, from which this one went on" in command) == (option != "uniform")
    assert ("COSTS.json is provenance.training.gate.costs of manifest.json" in command) == (option == "COSTS.json")
    assert exporting.startswith("python -m export RUN2 --out BUNDLE --data NEW ")


def assert_one_line(capsys: pytest.CaptureFixture[str], message: str) -> None:
    stderr = capsys.readouterr().err.strip()
    assert stderr.startswith("error: ")
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tree(tmp_path_factory.mktemp("images"))


@pytest.mark.parametrize(
    ("main", "args", "message"),
    [
        (train.classifier.main, ["--recipe", "none.toml", "--out", "run"], "cannot read the recipe none.toml"),
        (train.classifier.main, ["--recipe", "good.toml", "--out", "r", "--data", "none"], "none does not exist"),
        (train.classifier.main, ["--recipe", "good.toml", "--out", "done", "--data", "tree"], "already holds a run"),
        (train.classifier.main, ["--recipe", "five.toml", "--out", "r", "--data", "tree"], "5 classes, the data 4"),
        (train.curve.main, ["none", "--data", "tree"], "none is not a training run"),
        (train.curve.main, ["done", "--data", "tree", "--naive", "small"], "(short_side None), small of 8 (None); "),
        (train.curve.main, ["done", "--data", "tree", "--naive", "cut"], "(short_side None), cut of 16 (20); compare"),
        (export.__main__.main, ["none", "--out", "b"], "none is not a training run"),
        (export.__main__.main, ["done", "--out", "tree"], "tree exists; choose another --out"),
        (export.__main__.main, ["done", "--out", "b", "--data", "none"], "none does not exist"),
        (export.__main__.main, ["done", "--out", "b", "--data", "tree"], "the data has 100 training images, that of"),
        (export.static.main, ["done", "--u", "nan", "--out", "s.onnx"], "throttle u must lie in [0, 1], got nan"),
        (export.static.main, ["done", "--u", "1.5", "--out", "s.onnx"], "throttle u must lie in [0, 1], got 1.5"),
        (export.static.main, ["none", "--u", "1", "--out", "s.onnx"], "none is not a training run"),
    ],
)
def test_mistake_ends_with_one_line_and_code_1(
    main: Program, args: list[str], message: str, resnet_d: Exported, tree: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tree").symlink_to(tree)
    write_recipe(tmp_path / "good.toml")
    write_recipe(tmp_path / "five.toml", n_classes=5)
    (tmp_path / "done").symlink_to(resnet_d.run)
    write_run(tmp_path / "small", dataclasses.replace(read_run(resnet_d.run), image_size=8))
    write_run(tmp_path / "cut", dataclasses.replace(read_run(resnet_d.run), short_side=20))
    assert call(main, *args, monkeypatch=monkeypatch) == 1
    if main is train.classifier.main and "tree" in args:  # it has told before what it read
        stderr = capsys.readouterr().err.splitlines()
        assert "100 images of 4 classes" in stderr[0]
        assert stderr[-1].startswith("error: ")
        assert message in stderr[-1]
    else:
        assert_one_line(capsys, message)


def test_int8_is_not_measured_on_images_that_were_trained_on(
    resnet_d: Exported, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    args = (resnet_d.bundle, "--out", tmp_path / "b", "--data", tree)
    capsys.readouterr()
    assert call(export.int8.main, *args, monkeypatch=monkeypatch) == 1
    assert_one_line(capsys, "the data has 100 training images, that of the training had 256: images that were trained")
    assert not (tmp_path / "b").exists()


def test_recipe_that_holds_nothing_out_has_nothing_to_measure_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = write_recipe(tmp_path / "recipe.toml")
    recipe.write_text(recipe.read_text().replace("held_out = 32", "held_out = 0"))
    call(train.classifier.main, "--recipe", recipe, "--out", tmp_path / "run", "--untrained", monkeypatch=monkeypatch)
    capsys.readouterr()
    args = (tmp_path / "run", "--out", tmp_path / "b", "--data", tmp_path)
    assert call(export.__main__.main, *args, monkeypatch=monkeypatch) == 1
    assert_one_line(capsys, "its recipe holds out no images to measure on; leave --data away")


@pytest.mark.parametrize(
    ("main", "args", "message"),
    [
        (train.classifier.main, ["--out", "run"], "Missing option '--recipe'"),
        (train.classifier.main, ["--recipe", "good.toml", "--out", "run"], "name the data folder, or pass --untrained"),
        (train.classifier.main, ["--recipe", "good.toml", "--out", "run", "--epochs", "3"], "No such option: --epochs"),
        (export.__main__.main, ["run"], "Missing option '--out'"),
        (export.static.main, ["run", "--u", "half", "--out", "s.onnx"], "Invalid value for '--u'"),
    ],
)
def test_wrong_arguments_end_with_code_2(
    main: Program, args: list[str], message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_recipe(tmp_path / "good.toml")
    assert call(main, *args, monkeypatch=monkeypatch) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["good.toml"]
