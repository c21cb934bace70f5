"""What a device can import, and what each package shows."""

from __future__ import annotations

import importlib
import subprocess
import sys
import typing
from types import ModuleType

import pytest

PACKAGES = ["tnn_edge", "tnn_edge.bundle", "tnn_edge.runtime", "tnn_edge.camera"]
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


@pytest.mark.parametrize("absent", [FRAMEWORKS, FRAMEWORKS + WORKSHOP + EXTRAS], ids=["frameworks", "and extras"])
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
