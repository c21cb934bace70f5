"""What a device can import, and what each package shows."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import typing
from pathlib import Path
from types import ModuleType

import numpy as np
import PIL.Image
import pytest

PACKAGES = [
    "tnn_edge",
    "tnn_edge.bundle",
    "tnn_edge.runtime",
    "tnn_edge.plant",
    "tnn_edge.control",
    "tnn_edge.device",
    "tnn_edge.doctor",
    "tnn_edge.camera",
]
FRAMEWORKS = ["torch", "torchvision", "gymnasium", "stable_baselines3"]
EXTRAS = ["cv2", "matplotlib"]
WORKSHOP = ["train", "export"]

WITHOUT = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def run_without(absent: list[str], code: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh process in which the packages in `absent` cannot be imported."""
    command = [sys.executable, "-c", WITHOUT.format(absent=absent) + code, *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    "absent",
    [
        pytest.param(FRAMEWORKS, marks=pytest.mark.slow, id="frameworks"),
        pytest.param(FRAMEWORKS + WORKSHOP + EXTRAS, id="and extras"),
    ],
)
@pytest.mark.parametrize("name", [*PACKAGES, "tnn_edge.cli.main"])
def test_device_half_imports_without(name: str, absent: list[str]) -> None:
    done = run_without(absent, f"import {name}")
    assert done.returncode == 0, done.stderr


def test_every_public_name_resolves_without_frameworks() -> None:
    code = "import importlib\n" + "".join(
        f"package = importlib.import_module({name!r})\nfor name in package.__all__: getattr(package, name)\n"
        for name in PACKAGES
    )
    done = run_without(FRAMEWORKS, code)
    assert done.returncode == 0, done.stderr


def test_blocked_packages_really_are_absent() -> None:
    done = run_without(["json"], "import json")
    assert done.returncode == 1
    assert "ModuleNotFoundError: No module named 'json'" in done.stderr


@pytest.mark.parametrize("name", PACKAGES)
def test_all_names_what_is_public(name: str) -> None:
    package = importlib.import_module(name)
    listed: list[str] = package.__all__
    assert len(listed) == len(set(listed))
    for public in listed:
        getattr(package, public)  # lazily defined names too
    assert public_names(package) <= set(listed)


def public_names(package: ModuleType) -> set[str]:
    """Names a package defines or imports for its users: no submodules, nothing that typing lends it."""
    return {
        name
        for name, value in vars(package).items()
        if not name.startswith("_")
        and name != "annotations"  # from __future__
        and not isinstance(value, ModuleType)
        and getattr(typing, name, None) is not value
    }


def test_command_answers_help_without_frameworks() -> None:
    done = run_without(FRAMEWORKS, "from tnn_edge.cli.main import app; app()", "--help")
    assert done.returncode == 0, done.stderr
    for command in ("bundle", "install", "verify", "bench", "run", "sweep"):
        assert command in done.stdout


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """One photo of noise in one of the tiny bundle's classes."""
    folder = tmp_path / "images"
    (folder / "cat").mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    PIL.Image.fromarray(noise).save(folder / "cat" / "1.jpg")
    return folder


MAIN = "from tnn_edge.cli.main import main; main()"


def test_image_folders_need_no_extra(tiny_bundle: Path, images: Path) -> None:
    options = ("--bundle", str(tiny_bundle), "--device", "cpu", "--json")
    done = run_without(FRAMEWORKS + EXTRAS, MAIN, "run", str(images), *options)
    assert done.returncode == 0, done.stderr
    record, last = map(json.loads, done.stdout.splitlines())
    assert record["name"] == "cat/1.jpg"
    assert last["summary"]["processed"] == 1
    done = run_without(FRAMEWORKS + EXTRAS, MAIN, "sweep", str(images), *options)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["n_images"] == 1


def test_without_opencv_a_video_is_one_line_that_names_the_extra(tiny_bundle: Path, tmp_path: Path) -> None:
    video = tmp_path / "clip.mp4"
    video.touch()
    done = run_without(EXTRAS, MAIN, "run", str(video), "--bundle", str(tiny_bundle))
    assert done.returncode == 1
    assert done.stderr == (
        "error: reading a video needs OpenCV (No module named 'cv2'): pip install 'tnn-edge[camera]'\n"
    )
