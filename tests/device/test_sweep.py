"""The throttle curve of a bundle on labelled images."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from tnn_edge.camera import ImageFolder, Preprocessor, sweep_throttle
from tnn_edge.camera.curve_plot import plot_curve
from tnn_edge.cli.main import app
from tnn_edge.errors import InputError, MissingExtraError, SourceError, ThrottleRangeError, TnnEdgeError
from tnn_edge.runtime import Engine

CLASSES = ("airplane", "cat", "truck")
PER_CLASS = 4


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Noise in three of the bundle's classes; of another size than the network's."""
    root = tmp_path / "images"
    rng = np.random.default_rng(0)
    for label in CLASSES:
        (root / label).mkdir(parents=True)
        for i in range(PER_CLASS):
            PIL.Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(root / label / f"{i}.jpg")
    return root


def recording(engine: Engine, calls: list[float]) -> Engine:
    """The engine, noting each u it runs at."""

    def run(x: Any, u: float) -> Any:
        calls.append(u)
        return engine.run(x, u=u)

    parts = {
        "manifest": engine.manifest, "device": engine.device, "settings": engine.settings,
        "gate_network": engine.gate_network, "plans": engine.plans, "points": engine.points,
        "resident": engine.resident,
    }  # fmt: skip
    return cast(Engine, SimpleNamespace(run=run, point_at=engine.point_at, **parts))


def test_accuracy_and_confidence_equal_a_plain_count(engine: Engine, tree: Path) -> None:
    preprocessor = Preprocessor(engine.manifest.input)
    sweep = sweep_throttle(engine, ImageFolder(tree), throttles=[0.0, 0.5, 1.0])
    assert [point.u for point in sweep.points] == [0.0, 0.5, 1.0]
    for point in sweep.points:
        n_right, confidences = 0, []
        for frame in ImageFolder(tree):
            assert frame.image is not None
            logits = engine.run(preprocessor(frame.image), u=point.u).logits[0].astype(np.float64)
            n_right += engine.manifest.labels[int(logits.argmax())] == frame.label
            confidences.append(np.exp(logits).max() / np.exp(logits).sum())
        assert point.accuracy == n_right / (len(CLASSES) * PER_CLASS)
        assert point.confidence == pytest.approx(np.mean(confidences), rel=1e-6)
        selected = engine.point_at(point.u)
        assert (point.point_u, point.macs, point.utilisation) == (selected.u, selected.macs, selected.utilisation)
        assert 0 < point.latency_p50_ms <= point.latency_p95_ms


def test_throttles_of_one_operating_point_share_its_measurement(engine: Engine, tree: Path) -> None:
    sweep = sweep_throttle(engine, ImageFolder(tree))
    assert [point.u for point in sweep.points] == [i / 16 for i in range(17)]
    by_point = {point.point_u: point for point in sweep.points}
    assert sorted(by_point) == [point.u for point in engine.points]
    for point in sweep.points:
        shared = by_point[point.point_u]
        assert (point.latency_p50_ms, point.accuracy) == (shared.latency_p50_ms, shared.accuracy)


def test_each_round_runs_every_point_once_and_orders_differ(engine: Engine, tree: Path) -> None:
    calls: list[float] = []
    rounds: list[int] = []
    sweep_throttle(recording(engine, calls), ImageFolder(tree), on_progress=lambda done, total: rounds.append(done))
    dial = [point.u for point in engine.points]
    timed = calls[-len(rounds) * len(dial) :]
    orders = [tuple(timed[i : i + len(dial)]) for i in range(0, len(timed), len(dial))]
    assert all(sorted(order) == dial for order in orders)
    assert len(set(orders)) > len(dial)
    assert set(calls[: len(calls) - len(timed)]) == set(dial)  # warm-up
    assert rounds == list(range(1, 101))  # 12 images, and timings up to 100


def test_a_limit_spreads_over_the_classes(engine: Engine, tree: Path) -> None:
    class Noting(ImageFolder):
        def read(self, index: int) -> Any:
            labels.append(self.label(index))
            return super().read(index)

    labels: list[str | None] = []
    sweep = sweep_throttle(engine, Noting(tree), throttles=[0.0], limit=6)
    assert sweep.n_images == 6
    assert labels == ["airplane", "airplane", "cat", "cat", "truck", "truck"]


def test_an_image_that_does_not_decode_is_left_out_and_counted(engine: Engine, tree: Path) -> None:
    (tree / "cat" / "0.jpg").write_bytes(b"not an image")
    sweep = sweep_throttle(engine, ImageFolder(tree), throttles=[0.0])
    assert (sweep.n_images, sweep.n_failed) == (len(CLASSES) * PER_CLASS - 1, 1)


def test_a_class_that_the_bundle_does_not_know_is_named(engine: Engine, tree: Path) -> None:
    (tree / "cat").rename(tree / "unicorn")
    with pytest.raises(
        SourceError, match=r"the bundle knows no class 'unicorn'; name the folders after .*: airplane, au"
    ):
        sweep_throttle(engine, ImageFolder(tree))


def test_an_image_outside_the_classes_is_named(engine: Engine, tree: Path) -> None:
    (tree / "cat" / "0.jpg").rename(tree / "stray.jpg")
    with pytest.raises(SourceError, match=r"stray\.jpg has no class; name a tree <class>/\*\.jpg"):
        sweep_throttle(engine, ImageFolder(tree))


def test_a_tree_in_which_nothing_decodes_is_an_error(engine: Engine, tree: Path) -> None:
    for path in tree.glob("*/*.jpg"):
        path.write_bytes(b"not an image")
    with pytest.raises(SourceError, match=r"none of 12 images below .* decodes"):
        sweep_throttle(engine, ImageFolder(tree))


def test_a_throttle_outside_its_range_is_refused_before_anything_runs(engine: Engine, tree: Path) -> None:
    calls: list[float] = []
    with pytest.raises(ThrottleRangeError, match=r"\[0, 1\], got 1.5"):
        sweep_throttle(recording(engine, calls), ImageFolder(tree), throttles=[0.0, 1.5])
    assert calls == []


def test_the_command_prints_json_and_draws_the_curve(tiny_bundle: Path, tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    png = tmp_path / "curve.png"
    png.write_text("an older one")
    command = ["sweep", str(tree), "--bundle", str(tiny_bundle), "--device", "cpu", "--png", str(png), "--json"]
    done = CliRunner().invoke(app, [*command, "--u", "0", "--u", "1"], catch_exceptions=False)
    assert done.exit_code == 0
    document = json.loads(done.stdout)
    assert list(document) == ["machine", "bundle", "n_images", "n_failed", "points"]
    assert {"cpu", "cores", "device", "threads"} <= set(document["machine"])
    keys = "u point_u utilisation macs accuracy confidence latency_p50_ms latency_p95_ms"
    assert [list(point) for point in document["points"]] == [keys.split()] * 2
    assert png.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "images"]


def test_the_command_prints_a_table_and_warns_of_what_it_left_out(tiny_bundle: Path, tree: Path) -> None:
    (tree / "cat" / "0.jpg").write_bytes(b"not an image")
    command = ["sweep", str(tree), "--bundle", str(tiny_bundle), "--device", "cpu", "--limit", "12"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0
    for heading in ("u", "utilisation", "accuracy", "MMAC", "p50 ms"):
        assert heading in done.stdout
    assert done.stdout.count("%") == 17
    assert done.stderr == "warning: 1 images do not decode and are left out\n"


def test_a_picture_that_cannot_be_written_leaves_the_older_one(
    engine: Engine, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")

    def full_disk(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    sweep = sweep_throttle(engine, ImageFolder(tree), throttles=[0.0, 1.0])
    png = tmp_path / "curve.png"
    png.write_text("an older one")
    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(
        TnnEdgeError, match=r"curve\.png cannot be written \(No space left on device\); name another PNG file"
    ):
        plot_curve(sweep, png)
    assert png.read_text() == "an older one"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curve.png", "images"]


def test_a_picture_that_cannot_be_written_costs_no_measurement(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    png = Path("/proc/curve.png")  # nobody, not even root, makes a file there
    command = ["sweep", str(tree), "--bundle", str(tmp_path / "looked at later"), "--png", str(png)]
    with pytest.raises(TnnEdgeError, match=r"^/proc/curve\.png cannot be written \(.*\); name another PNG file$"):
        CliRunner().invoke(app, command, catch_exceptions=False)


def test_a_picture_does_not_replace_a_device(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    command = ["sweep", str(tree), "--bundle", str(tmp_path), "--png", "/dev/null"]
    with pytest.raises(InputError, match=r"/dev/null is a folder, a device or a pipe; name another PNG file"):
        CliRunner().invoke(app, command, catch_exceptions=False)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=["table", "json"])
def test_the_numbers_are_printed_even_when_the_picture_fails(
    tiny_bundle: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")

    def full_disk(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    command = ["sweep", str(tree), "--bundle", str(tiny_bundle), "--device", "cpu", "--u", "1"]
    done = CliRunner().invoke(app, [*command, "--png", str(tmp_path / "curve.png"), *form])
    assert isinstance(done.exception, TnnEdgeError)
    assert "cannot be written (No space left on device)" in str(done.exception)
    if form:
        assert len(json.loads(done.stdout)["points"]) == 1
    else:
        assert done.stdout.count("%") == 1


def test_a_picture_without_a_folder_is_refused_before_measuring(tiny_bundle: Path, tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    png = tmp_path / "nowhere" / "curve.png"
    with pytest.raises(InputError, match=r"folder .*nowhere does not exist; make it first"):
        CliRunner().invoke(
            app, ["sweep", str(tree), "--bundle", str(tiny_bundle), "--png", str(png)], catch_exceptions=False
        )


def test_without_matplotlib_the_error_names_the_extra(
    tiny_bundle: Path, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    command = ["sweep", str(tree), "--bundle", str(tiny_bundle), "--png", str(tmp_path / "curve.png")]
    with pytest.raises(MissingExtraError, match=r"needs matplotlib .*pip install 'tnn-edge\[plot\]'"):
        CliRunner().invoke(app, command, catch_exceptions=False)
