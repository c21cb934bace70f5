"""Every example is right, and runs as it stands."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.device.camera_folder import lines_of, rows_of
from tests.device.conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CAMERAS = sorted(path.name for path in EXAMPLES.glob("*.toml"))
POLICIES = sorted(path.name for path in (EXAMPLES / "policies").glob("*.toml"))


@pytest.fixture
def examples(tmp_path: Path) -> Path:
    """A copy, so that nothing is written into the checkout."""
    ignored = shutil.ignore_patterns("results", "__pycache__")
    return Path(shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=ignored))


def test_there_are_examples_of_both_kinds() -> None:
    assert "usb_camera.toml" in CAMERAS
    assert {"constant.toml", "pacing.toml", "pole_camera.toml", "soc_ramp.toml"} <= set(POLICIES)


@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_passes_its_check(name: str, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("config", "check", str(EXAMPLES / name))
    assert (code, err) == (0, "")
    assert out.startswith(f"{EXAMPLES / name}: right\n")


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_passes_its_check(name: str, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("policy", "check", str(EXAMPLES / "policies" / name))
    assert (code, err) == (0, "")
    assert out.startswith(f"{EXAMPLES / 'policies' / name}: right\n")


@pytest.mark.parametrize("name", CAMERAS)
def test_every_camera_runs_on_a_test_picture(name: str, examples: Path, tnn_edge_command: Command) -> None:
    code, _, err = tnn_edge_command("run", str(examples / name), "--source", "test:?frames=5&size=64x48")
    assert code == 0
    assert "captured 5 = " in err
    assert "Traceback" not in err
    if name == "usb_camera.toml":
        lines = lines_of(examples / "results" / "frames.jsonl")
        assert 1 <= len(lines) == len(rows_of(examples / "results" / "frames.db", "frames")) <= 5
        assert all(0.0 <= line["u"] <= 1.0 and line["observed"]["lux"] is not None for line in lines)
        assert (examples / "results" / "page.html").stat().st_size > 10_000


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_the_network_of_the_demo_is_verified(precision: str, tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("verify", str(EXAMPLES / "demo" / "bundle"), "--precision", precision)
    assert (code, err) == (0, "")
    assert "11 operating points verified" in out
