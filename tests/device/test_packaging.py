"""What the wheel and the source distribution hold."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ["pyproject.toml", "MANIFEST.in", "README.md", "LICENSE", "tnn_edge", "train", "export"]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both distributions, built offline from a copy of the sources that has leftovers beside it."""
    source = tmp_path_factory.mktemp("source")
    for name in SHIPPED:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(path, source / name)
    for leftover in ("build/lib/tnn_edge/stale.py", "build/lib/stale/__init__.py", "tnn_edge_anything/__init__.py"):
        (source / leftover).parent.mkdir(parents=True, exist_ok=True)
        (source / leftover).touch()

    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def wheel(dist: Path) -> zipfile.ZipFile:
    (path,) = dist.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_tnn_edge_alone(wheel: zipfile.ZipFile) -> None:
    top_level = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert top_level == {"tnn_edge", "tnn_edge-0.1.0.dist-info"}


def test_wheel_holds_every_source_file_and_nothing_stale(wheel: zipfile.ZipFile) -> None:
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / "tnn_edge").rglob("*.py")}
    assert {name for name in wheel.namelist() if name.endswith(".py")} == sources


def test_wheel_says_that_it_is_typed(wheel: zipfile.ZipFile) -> None:
    assert "tnn_edge/py.typed" in wheel.namelist()


def test_wheel_carries_its_licence(wheel: zipfile.ZipFile) -> None:
    assert wheel.read("tnn_edge-0.1.0.dist-info/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_base_install_asks_for_no_framework(wheel: zipfile.ZipFile) -> None:
    metadata = Parser().parsestr(wheel.read("tnn_edge-0.1.0.dist-info/METADATA").decode())
    base = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert base  # numpy at least
    for framework in ("torch", "onnxruntime", "opencv", "matplotlib"):
        assert not [line for line in base if line.startswith(framework)]


def test_wheel_installs_the_command(wheel: zipfile.ZipFile) -> None:
    entry_points = wheel.read("tnn_edge-0.1.0.dist-info/entry_points.txt").decode().splitlines()
    assert entry_points[:2] == ["[console_scripts]", "tnn-edge = tnn_edge.cli.main:main"]


def test_source_distribution_holds_the_workshop(dist: Path) -> None:
    (path,) = dist.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {PurePosixPath(name).relative_to("tnn_edge-0.1.0").as_posix() for name in archive.getnames()}
    assert {"train/__init__.py", "train/recipes", "export/__init__.py", "tnn_edge/py.typed", "LICENSE"} <= names
