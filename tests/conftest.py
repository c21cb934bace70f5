"""Fixtures that need no torch: a small real bundle and an engine on it."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

import tnn_edge
from tests.in_process import build_in_this_process
from tnn_edge.runtime import Engine

# Examples are slow where the machine is busy; a test that hangs shows without a deadline too.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")


REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_sessionstart() -> None:
    """What is imported while tests are collected is millions of objects and no garbage: nobody looks for it there."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Nor later: every measurement of ours begins with a collection, which would take half a second."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True, scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Plans of the tests go to a folder of their own."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TNN_EDGE_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """A widthwise network of 4 blocks and 5 operating points with statistics of their own. Read only."""
    return REPOSITORY / "tests" / "device" / "data" / "tiny_bundle"


@pytest.fixture
def bundle_copy(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to damage."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


@pytest.fixture
def builds_in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """An install builds here what it builds in a child, which takes a second to start; for tests of something else."""
    build_in_this_process(monkeypatch)


@pytest.fixture(scope="session")
def engine(tiny_bundle: Path, cache: Path) -> Iterator[Engine]:
    """The tiny bundle, loaded."""
    with tnn_edge.load(tiny_bundle, device="cpu") as loaded:
        yield loaded
