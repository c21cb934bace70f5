"""Whatever a bundle is made of, loading it ends soon, in little memory, and in an error that says what is wrong.

One process loads one bundle after the other; that it lives to load a sound one after them is part of the test.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import pytest

from tests.conftest import REPOSITORY
from tests.device.hostile_bundles import FILES, Damage
from tests.device.hostile_graphs import GRAPHS, many_convolutions
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import BundleError, TnnEdgeError
from tnn_edge.runtime.installing.build_limits import limits_of
from tnn_edge.runtime.installing.confined import Limits, confined
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.linking.macs import MAX_MACS, graph_macs

CORPUS: dict[str, tuple[Damage, str]] = {**FILES, **GRAPHS}
SLOW = {
    "a convolution of huge pads",
    "a product of a column and a row",
    "an input of 4096 pixels",
    "blocks that do not fit together",
    "convolutions of large kernels",
    "fewer multiply-adds than there are",
    "golden outputs of NaN",
    "many values of 100 MB",
    "pooling of huge pads",
}
"""A child refuses these, which takes a second to start; the rest holds others of their kind."""
SOUND = "a sound bundle"
MAX_SECONDS = 5.0
MAX_MB = 512

LOADER = """
import json, resource, sys, time
from pathlib import Path
import tnn_edge
for line in sys.stdin:
    bundle, cache = json.loads(line)
    start, said = time.perf_counter(), {"error": None, "message": ""}
    try:
        tnn_edge.load(bundle, device="cpu", cache=Path(cache)).close()
    except tnn_edge.TnnEdgeError as err:
        said = {"error": type(err).__name__, "message": str(err)}
    seconds = time.perf_counter() - start
    own = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    said |= {"seconds": seconds, "own_mb": int(own.split()[1]) / 1024, "childrens_mb": children}
    print(json.dumps(said), flush=True)
"""


@dataclass(frozen=True)
class Loaded:
    """What came of loading one bundle; the memory is the largest up to then."""

    error: str | None
    message: str
    seconds: float
    own_mb: float
    childrens_mb: float


def load_all(names: list[str], tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Loaded]:
    """Bundles of the corpus, and a sound one after them -> what came of loading them, in one process."""
    damages = {name: CORPUS[name][0] for name in names} | {SOUND: lambda bundle: None}
    requests = []
    for damage in damages.values():
        folder = tmp_path_factory.mktemp("hostile")
        bundle = Path(shutil.copytree(tiny_bundle, folder / "bundle"))
        damage(bundle)
        requests.append(json.dumps([str(bundle), str(folder / "cache")]))
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
    return dict(zip(damages, results, strict=True))


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Loaded]:
    return load_all([name for name in CORPUS if name not in SLOW], tmp_path_factory, tiny_bundle)


@pytest.fixture(scope="module")
def slowly_loaded(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path) -> dict[str, Loaded]:
    return load_all([name for name in CORPUS if name in SLOW], tmp_path_factory, tiny_bundle)


@pytest.mark.parametrize("name", [name for name in CORPUS if name not in SLOW])
def test_a_hostile_bundle_is_refused(loaded: dict[str, Loaded], name: str) -> None:
    assert_refused(name, loaded[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in CORPUS if name in SLOW])
def test_a_hostile_bundle_that_starts_a_child_is_refused(slowly_loaded: dict[str, Loaded], name: str) -> None:
    assert_refused(name, slowly_loaded[name])


def assert_refused(name: str, found: Loaded) -> None:
    says = CORPUS[name][1]
    assert found.error in {"BundleError", "SchemaError", "PlanError", "VerificationError"}, found
    assert re.search(says, found.message), found.message
    assert found.seconds <= MAX_SECONDS


@pytest.mark.parametrize("those", ["loaded", pytest.param("slowly_loaded", marks=pytest.mark.slow)])
def test_no_hostile_bundle_fills_the_memory(those: str, request: pytest.FixtureRequest) -> None:
    *_, last = request.getfixturevalue(those).values()
    assert 20 < last.own_mb <= MAX_MB
    assert last.childrens_mb <= MAX_MB


def build_within(bundle: Path, folder: Path, limits: Limits) -> None:
    """What an install does, under other limits."""
    many_convolutions(bundle)
    declare_macs(bundle)
    opened = open_bundle(bundle)
    arguments = {"bundle": str(bundle), "digest": opened.digest, "device": "cpu", "precision": "float32"}
    arguments["folder"] = str(folder / "plans")
    confined("tnn_edge.runtime.installing.building:build", arguments, limits, what=f"the install of {bundle}")


def declare_macs(bundle: Path) -> None:
    """Let the manifest count right."""
    opened = open_bundle(bundle)
    counts = [graph_macs(ir.to_proto(link(opened, point.gates))) for point in opened.manifest.operating_points]
    manifest = json.loads((bundle / "manifest.json").read_text())
    for point, macs in zip(manifest["operating_points"], counts, strict=True):
        point["macs"] = macs
    (bundle / "manifest.json").write_text(json.dumps(manifest))


def test_a_bundle_that_computes_too_long_is_stopped(bundle_copy: Path, tmp_path: Path) -> None:
    says = f"^the install of {re.escape(str(bundle_copy))} ran longer than 2 s of CPU time; do not use this bundle"
    with pytest.raises(BundleError, match=says):
        build_within(bundle_copy, tmp_path, Limits(600 * 2**20, 2, 30))


def test_a_bundle_buys_no_time_by_declaring_more_than_one_run_may_take(tiny_bundle: Path) -> None:
    opened = open_bundle(tiny_bundle)

    def limits(macs: int) -> Limits:
        points = tuple(point.model_copy(update={"macs": macs}) for point in opened.manifest.operating_points)
        manifest = opened.manifest.model_copy(update={"operating_points": points})
        return limits_of(Bundle(opened.path, manifest, opened.digest), "cpu")

    assert limits(10**18) == limits(MAX_MACS) != limits(1)


def test_a_bundle_that_needs_too_much_memory_is_stopped(bundle_copy: Path, tmp_path: Path) -> None:
    with pytest.raises(TnnEdgeError, match=r"memory|bad_alloc"):
        build_within(bundle_copy, tmp_path, Limits(230 * 2**20, 10, 30))


def test_the_bundle_that_they_are_made_of_is_sound(loaded: dict[str, Loaded]) -> None:
    assert loaded[SOUND].error is None
