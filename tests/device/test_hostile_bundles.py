"""Whatever a bundle is made of, loading it ends soon, in little memory, and in an error that says what is wrong.

One process loads the whole corpus, one bundle after the other; that it lives to tell of the last is part of the test.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.device.hostile_bundles import FILES, Damage
from tests.device.hostile_graphs import GRAPHS, PROBED, many_convolutions
from tests.device.hostile_loading import try_in_child
from tnn_edge.errors import BundleError, TnnEdgeError

CORPUS: dict[str, tuple[Damage, str]] = {**FILES, **GRAPHS, **PROBED}
MAX_SECONDS = 5.0
MAX_MB = 512

LOADER = """
import json, resource, sys, time
import tnn_edge
from tests.device.hostile_loading import load_and_try
for line in sys.stdin:
    bundle, cache, is_probed = json.loads(line)
    start, said = time.perf_counter(), {"error": None, "message": ""}
    try:
        load_and_try(bundle, cache, is_probed)
    except tnn_edge.TnnEdgeError as err:
        said = {"error": type(err).__name__, "message": str(err)}
    seconds = time.perf_counter() - start
    usage = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps(said | {"seconds": seconds, "own_mb": usage[0], "childrens_mb": usage[1]}), flush=True)
"""


@dataclass(frozen=True)
class Loaded:
    """What came of loading one bundle; the memory is the largest up to then."""

    error: str | None
    message: str
    seconds: float
    own_mb: float
    childrens_mb: float


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Loaded]:
    """Each bundle of the corpus -> what came of loading it, in one process."""
    requests, names = [], list(CORPUS)
    for name in names:
        folder = tmp_path_factory.mktemp("hostile")
        bundle = Path(shutil.copytree(tiny_bundle, folder / "bundle"))
        CORPUS[name][0](bundle)
        requests.append(json.dumps([str(bundle), str(folder / "cache"), name in PROBED]))
    done = subprocess.run(
        [sys.executable, "-c", LOADER],
        cwd=REPOSITORY,
        input="\n".join(requests),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = [Loaded(**json.loads(line)) for line in done.stdout.splitlines()]
    return dict(zip(names, results, strict=True))


@pytest.mark.parametrize("name", CORPUS)
def test_a_hostile_bundle_is_refused(loaded: dict[str, Loaded], name: str) -> None:
    found, says = loaded[name], CORPUS[name][1]
    assert found.error in {"BundleError", "SchemaError", "PlanError", "VerificationError"}, found
    assert re.search(says, found.message), found.message
    assert found.seconds <= MAX_SECONDS


def test_no_hostile_bundle_fills_the_memory(loaded: dict[str, Loaded]) -> None:
    last = list(loaded.values())[-1]
    assert 20 < last.own_mb <= MAX_MB
    assert last.childrens_mb <= MAX_MB


def test_a_bundle_that_computes_too_long_is_stopped(bundle_copy: Path, tmp_path: Path) -> None:
    many_convolutions(bundle_copy)
    says = f"^the probe of {re.escape(str(bundle_copy))} ran longer than 2 s of CPU time; do not use this bundle"
    with pytest.raises(BundleError, match=says):
        try_in_child(str(bundle_copy), str(tmp_path / "cache"), cpu_seconds=2, counts=False)


def test_a_bundle_that_needs_too_much_memory_is_stopped(bundle_copy: Path, tmp_path: Path) -> None:
    many_convolutions(bundle_copy)
    with pytest.raises(TnnEdgeError, match=r"memory|bad allocation|bad_alloc"):
        try_in_child(str(bundle_copy), str(tmp_path / "cache"), address_space_mb=230, counts=False)


def test_the_bundle_that_they_are_made_of_is_sound(tiny_bundle: Path, tmp_path: Path) -> None:
    request = json.dumps([str(tiny_bundle), str(tmp_path / "cache"), True])
    done = subprocess.run(
        [sys.executable, "-c", LOADER], cwd=REPOSITORY, input=request, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["error"] is None
