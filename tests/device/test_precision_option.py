"""`--precision int8` and `--max-resident-mb`: what each command makes of them, and how it refuses what cannot be."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import tnn_edge.device
from tests.device.calibrated import calibrated_copy
from tests.device.camera_folder import lines_of, write_camera, write_images
from tests.device.conftest import Command
from tnn_edge.bundle import open_bundle
from tnn_edge.device import ModelledMeter
from tnn_edge.runtime.installing.plans import find_plans

REPOSITORY = Path(__file__).resolve().parents[2]

TAKE_PRECISION = ["install", "verify", "bench", "profile"]
INT8 = ["--device", "cpu", "--precision", "int8"]


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with ranges for 8-bit integers. Read only."""
    return calibrated_copy(tiny_bundle, tmp_path_factory.mktemp("int8") / "bundle").path


def ok(answer: tuple[int, str, str]) -> str:
    code, out, err = answer
    assert (code, err) == (0, "")
    return out


def test_install_makes_plans_in_8_bit_integers(bundle: Path, tnn_edge_command: Command) -> None:
    printed = [
        json.loads(ok(tnn_edge_command("install", str(bundle), "--device", "cpu", "--precision", precision, "--json")))
        for precision in ("float32", "int8")
    ]
    plans = find_plans(open_bundle(bundle), "cpu", precision="int8")
    assert plans is not None
    assert printed[1]["folder"] == str(plans.folder) != printed[0]["folder"]
    assert printed[1]["stored_bytes"] < printed[0]["stored_bytes"]


def test_auto_installs_8_bit_integers_for_the_cpu(bundle: Path, tnn_edge_command: Command) -> None:
    printed = json.loads(ok(tnn_edge_command("install", str(bundle), "--precision", "int8", "--json")))
    plans = find_plans(open_bundle(bundle), "cpu", precision="int8")
    assert plans is not None and printed["folder"] == str(plans.folder)


def test_verify_holds_8_bit_integers_to_their_own_bound(bundle: Path, tnn_edge_command: Command) -> None:
    out = ok(tnn_edge_command("verify", str(bundle), *INT8))
    assert out.startswith("cifar10_tiny in int8 on cpu\n")
    assert out.endswith("5 operating points verified\n")
    worst = {
        precision: max(
            point["error"]
            for point in json.loads(
                ok(tnn_edge_command("verify", str(bundle), "--device", "cpu", "--precision", precision, "--json"))
            )["points"]
        )
        for precision in ("float32", "int8")
    }
    assert worst["float32"] < 1e-4 < worst["int8"]


def test_bench_says_its_precision(bundle: Path, tnn_edge_command: Command) -> None:
    assert ok(tnn_edge_command("bench", str(bundle), *INT8, "--rounds", "2")).startswith("cifar10_tiny in int8 on ")
    assert ok(tnn_edge_command("bench", str(bundle), "--device", "cpu", "--rounds", "2")).startswith("cifar10_tiny on ")
    printed = json.loads(ok(tnn_edge_command("bench", str(bundle), *INT8, "--switches", "3", "--json")))
    assert printed["machine"]["precision"] == "int8"


@pytest.mark.usefixtures("builds_in_this_process")
def test_profiles_of_both_precisions_are_kept_apart(
    bundle: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TNN_EDGE_CACHE", str(tmp_path))
    monkeypatch.setattr(tnn_edge.device, "best_meter", lambda device: (ModelledMeter(), ()))
    out = ok(tnn_edge_command("profile", str(bundle), *INT8, "--rounds", "20", "--seconds", "0.01"))
    assert out.startswith("cifar10_tiny in int8 on ")
    ok(tnn_edge_command("profile", str(bundle), *INT8, "--kept"))
    code, _, err = tnn_edge_command("profile", str(bundle), "--device", "cpu", "--kept")
    assert code == 1
    assert err.startswith("error: no profile was measured on this machine with these settings")


def test_the_table_of_settings_is_measured_in_the_precision(
    bundle: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def table(*args: Any, **options: Any) -> tuple[()]:
        asked.append(options)
        return ()

    monkeypatch.setattr("tnn_edge.runtime.measuring.settings_table.settings_table", table)
    printed = json.loads(ok(tnn_edge_command("profile", str(bundle), "--settings", *INT8, "--json")))
    assert [options["precision"] for options in asked] == ["int8"]
    assert printed["machine"]["precision"] == "int8"


def test_a_run_in_8_bit_integers_answers_otherwise(bundle: Path, tmp_path: Path, tnn_edge_command: Command) -> None:
    images = write_images(tmp_path / "images", 4)
    confidences = []
    for precision in ("float32", "int8"):
        command = ["run", str(images), "--bundle", str(bundle), "--device", "cpu", "--precision", precision]
        code, out, _ = tnn_edge_command(*command)
        assert code == 0
        confidences.append([json.loads(line)["confidence"] for line in out.splitlines()])
    assert confidences[0] != confidences[1]
    assert confidences[1] == pytest.approx(confidences[0], abs=0.2)
    path = write_camera(
        tmp_path, bundle, source={"spec": str(images)}, engine={"precision": "int8"},
        rules="[constant]\nu = 1.0\n[governor]\nunknown_u = 1.0\n",
    )  # fmt: skip
    assert tnn_edge_command("run", str(path))[0] == 0
    assert [line["confidence"] for line in lines_of(tmp_path / "out" / "frames.jsonl")] == confidences[1]


def test_a_sweep_says_its_precision(bundle: Path, tnn_edge_command: Command) -> None:
    images = str(REPOSITORY / "examples" / "demo" / "images")
    command = ["sweep", images, "--bundle", str(bundle), *INT8, "--u", "1", "--limit", "3"]
    assert ok(tnn_edge_command(*command)).startswith("cifar10_tiny in int8, 3 images on ")
    assert json.loads(ok(tnn_edge_command(*command, "--json")))["machine"]["precision"] == "int8"


@pytest.mark.parametrize("command", TAKE_PRECISION)
def test_a_bundle_without_ranges_is_one_line(command: str, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command(command, str(tiny_bundle), *INT8)
    assert (code, out) == (1, "")
    assert re.fullmatch(r"error: .*tiny_bundle has no ranges for 8-bit integers; python -m export\.int8 .*\n", err)


@pytest.mark.parametrize("command", TAKE_PRECISION)
def test_a_precision_that_there_is_not_is_a_usage_error(
    command: str, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    code, out, err = tnn_edge_command(command, str(tiny_bundle), "--precision", "int4")
    assert (code, out) == (2, "")
    assert all(word in err for word in ("--precision", "int4", "float32", "int8"))


@pytest.mark.parametrize("value", ["0", "-3", "nan", "inf", "1e300"])
@pytest.mark.parametrize("command", ["run", "bench"])
def test_a_memory_that_holds_nothing_is_one_line(
    command: str, value: str, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    what = ["test:?frames=1", "--bundle", str(tiny_bundle)] if command == "run" else [str(tiny_bundle)]
    code, out, err = tnn_edge_command(command, *what, "--max-resident-mb", value)
    assert (code, out) == (1, "")
    assert err == (
        f"error: --max-resident-mb must lie in (0, 1e+09], got {float(value):g}; without it every operating point is "
        "in memory\n"
    )


def test_bench_times_what_the_memory_holds_and_refuses_the_rest(tiny_bundle: Path, tnn_edge_command: Command) -> None:
    common = ["bench", str(tiny_bundle), "--device", "cpu", "--rounds", "2", "--max-resident-mb", "0.5"]
    printed = json.loads(ok(tnn_edge_command(*common, "--u", "0.1", "--json")))
    assert [point["u"] for point in printed["points"]] == [0.1]
    code, out, err = tnn_edge_command(*common)
    assert (code, out) == (1, "")
    assert err.startswith("error: the operating point from u=0.2000 is not in memory, and a lower one would be timed")


def test_a_configuration_in_8_bit_integers_needs_a_bundle_with_ranges(
    bundle: Path, tiny_bundle: Path, tmp_path: Path, tnn_edge_command: Command
) -> None:
    path = write_camera(tmp_path, tiny_bundle, engine={"precision": "int8"})
    code, out, err = tnn_edge_command("config", "check", str(path))
    assert (code, out) == (1, "")
    assert err == (
        f'error: {tiny_bundle} has no ranges for 8-bit integers; say precision = "float32" in [engine] of {path}, or '
        f"make a bundle that has: python -m export.int8 {tiny_bundle} --out OTHER --data DIR\n"
    )
    path = write_camera(tmp_path, bundle, engine={"precision": "int8"})
    ok(tnn_edge_command("config", "check", str(path)))
