"""Plans of hot vectors: made in the background, kept within bounds, found again, and never believed unread."""

from __future__ import annotations

import gc
import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from tests.device.graphs import drawn
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime import PlanSet, install
from tnn_edge.runtime.installing.build_limits import limits_of
from tnn_edge.runtime.installing.confined import Limits
from tnn_edge.runtime.vectors.plans import VectorPlans
from tnn_edge.runtime.vectors.stepwise import Stepwise
from tnn_edge.runtime.vectors.store import VectorPlan, VectorStore, store_vector

Array = npt.NDArray[np.float32]
Gates = dict[str, str]

X = drawn(3, 1, 3, 32, 32)
MB = 2**20


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def installed(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> PlanSet:
    return install(bundle, "cpu", tmp_path_factory.mktemp("installed"))


@pytest.fixture
def plans(installed: PlanSet, tmp_path: Path) -> PlanSet:
    """A set beside which nothing lies yet."""
    folder = shutil.copytree(installed.folder, tmp_path / "plans" / installed.folder.name)
    return replace(installed, folder=folder)


@pytest.fixture
def vectors(bundle: Bundle, plans: PlanSet) -> Iterator[VectorPlans]:
    with VectorPlans(bundle, plans, hot_after=3) as opened:
        yield opened


@pytest.fixture(scope="module")
def stepwise(bundle: Bundle) -> Stepwise:
    return Stepwise(bundle)


def gates(bundle: Bundle, bits: str) -> Gates:
    return {gate.name: bits for gate in bundle.manifest.gates}


def size_of(bundle: Bundle, folder: Path, bits: str) -> int:
    return VectorStore(folder, 100 * MB).add(bundle, gates(bundle, bits)).n_bytes


def stored(store: VectorStore) -> set[str]:
    return {path.name for path in store.folder.iterdir() if not path.name.startswith(".")}


def written_ns(store: VectorStore, gates: Gates) -> int:
    plan = store.find(gates)
    assert plan is not None
    return plan.path.stat().st_mtime_ns


# --- from cold to hot


def test_a_vector_asked_for_often_gets_a_plan_that_gives_the_same_answers(
    bundle: Bundle, vectors: VectorPlans, stepwise: Stepwise
) -> None:
    hot, other = gates(bundle, "0110"), gates(bundle, "0101")
    assert [vectors.run(X, hot) for _ in range(2)] == [None, None]
    assert not vectors.is_building
    assert vectors.run(X, hot) is None
    assert vectors.is_building
    vectors.settle()
    answer = vectors.run(X, hot)
    assert answer is not None
    kept, expected = answer.copy(), stepwise.run(X, hot)
    assert np.abs(answer - expected).max() <= 1e-5 * np.abs(expected).max()
    assert (vectors.n_resident, vectors.is_building) == (1, False)
    assert vectors.run(X, other) is None
    assert vectors.run(X * 2, hot) is not None
    assert np.array_equal(answer, kept)  # the caller's own


def test_one_child_works_at_a_time_and_all_hot_vectors_get_their_turn(bundle: Bundle, vectors: VectorPlans) -> None:
    for bits in ("0110", "0101"):
        for _ in range(5):
            assert vectors.run(X, gates(bundle, bits)) is None
    vectors.settle()
    first, second = (vectors.run(X, gates(bundle, bits)) for bits in ("0110", "0101"))
    assert first is not None and second is not None
    assert not np.array_equal(first, second)
    assert len(stored(vectors.store)) == 2


# --- restart


def test_a_plan_is_found_again_by_the_first_that_asks(bundle: Bundle, plans: PlanSet) -> None:
    hot = gates(bundle, "0110")
    with VectorPlans(bundle, plans, hot_after=1) as before:
        before.run(X, hot)
        before.settle()
        answer, written = before.run(X, hot), written_ns(before.store, hot)
    with VectorPlans(bundle, plans, hot_after=1000) as after:
        assert after.run(X, hot) is None
        after.settle()
        again = after.run(X, hot)
        assert answer is not None and again is not None
        assert np.array_equal(answer, again)
        assert written_ns(after.store, hot) == written


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["plan.onnx", "weights.bin", "vector.json"])
@pytest.mark.parametrize("damage", [cut, flip, Path.unlink], ids=["cut", "flipped", "gone"])
def test_a_damaged_plan_is_made_anew(bundle: Bundle, tmp_path: Path, name: str, damage: Callable[[Path], None]) -> None:
    store, hot = VectorStore(tmp_path / "store", 100 * MB), gates(bundle, "0110")
    first = store.add(bundle, hot)
    damage(first.path.with_name(name))
    assert store.find(hot) is None
    assert store.add(bundle, hot) == store.find(hot) == first


def test_a_plan_of_another_vector_under_its_name_is_not_believed(bundle: Bundle, tmp_path: Path) -> None:
    store, hot, other = VectorStore(tmp_path / "store", 100 * MB), gates(bundle, "0110"), gates(bundle, "0101")
    folders = [store.add(bundle, each).path.parent for each in (hot, other)]
    shutil.rmtree(folders[0])
    folders[1].rename(folders[0])
    assert store.find(hot) is None


# --- bounds


def test_the_store_stays_within_its_bytes_and_the_least_recently_used_goes(bundle: Bundle, tmp_path: Path) -> None:
    sizes = {bits: size_of(bundle, tmp_path / "sizes", bits) for bits in ("0110", "0101", "1010")}
    store = VectorStore(tmp_path / "store", sum(sizes.values()) - 1)
    for used_s, bits in ((2.0, "0110"), (1.0, "0101")):
        store.add(bundle, gates(bundle, bits))
        store.touch(gates(bundle, bits), used_s)
    store.add(bundle, gates(bundle, "1010"))
    assert store.find(gates(bundle, "0101")) is None
    assert store.find(gates(bundle, "0110")) is not None
    assert store.find(gates(bundle, "1010")) is not None


@pytest.mark.slow  # four children
def test_use_by_the_engine_counts_as_use(bundle: Bundle, plans: PlanSet, tmp_path: Path) -> None:
    all_bytes = sum(size_of(bundle, tmp_path / "sizes", bits) for bits in ("0110", "0101", "1010"))
    seconds = iter(range(4_000_000_000, 4_000_001_000))  # far after what adding a plan notes
    max_store_mb = (all_bytes - 1) / MB
    with VectorPlans(
        bundle, plans, hot_after=1, max_store_mb=max_store_mb, clock_s=lambda: float(next(seconds))
    ) as vectors:
        for bits in ("0110", "0101"):
            vectors.run(X, gates(bundle, bits))
            vectors.settle()
        for bits in ("0101", "0110"):
            assert vectors.run(X, gates(bundle, bits)) is not None
        vectors.run(X, gates(bundle, "1010"))
        vectors.settle()
        assert not vectors.store.is_there(gates(bundle, "0101"))
        assert vectors.store.is_there(gates(bundle, "0110"))
        assert vectors.n_resident == 2  # memory has the same bound


def test_a_plan_larger_than_the_store_leaves_the_vector_stepwise_with_one_warning(
    bundle: Bundle, plans: PlanSet, caplog: pytest.LogCaptureFixture
) -> None:
    with VectorPlans(bundle, plans, hot_after=1, max_store_mb=1024 / MB) as vectors, caplog.at_level(logging.WARNING):
        for _ in range(5):
            assert vectors.run(X, gates(bundle, "0110")) is None
            vectors.settle()
        (warning,) = caplog.messages
        assert re.search(
            r"runs block by block: the plan of a gate vector takes 0\.0\d+ MB, more than the 0\.000977 MB", warning
        )
        assert stored(vectors.store) == set()


def test_a_store_that_cannot_be_written_leaves_the_vector_stepwise_with_one_warning(
    bundle: Bundle, plans: PlanSet, caplog: pytest.LogCaptureFixture
) -> None:
    with VectorPlans(bundle, plans, hot_after=1) as vectors, caplog.at_level(logging.WARNING):
        vectors.store.folder.write_text("a file where the folder must be")
        for _ in range(3):
            assert vectors.run(X, gates(bundle, "0110")) is None
            vectors.settle()
        (warning,) = caplog.messages
        assert "cannot write the plan of a gate vector to" in warning
        assert warning.endswith("; set TNN_EDGE_CACHE to another folder")


FULL_DISK = """
import resource, signal, sys, json
from pathlib import Path
from tnn_edge.bundle import open_bundle
from tnn_edge.errors import PlanError
from tnn_edge.runtime.vectors.store import VectorStore
bundle = open_bundle(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = VectorStore(Path(sys.argv[2]), 2**30)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    store.add(bundle, json.loads(sys.argv[3]))
except PlanError as err:
    print(err)
"""


def test_no_room_on_the_disk_is_one_clear_error_and_leaves_nothing(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "store"
    command = [sys.executable, "-c", FULL_DISK, str(bundle.path), str(folder), json.dumps(gates(bundle, "0110"))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.search(r"File too large|cannot load a linked graph", done.stdout), done.stdout + done.stderr
    assert stored(VectorStore(folder, MB)) == set()
    assert not [path for path in folder.iterdir() if path.is_dir()]


# --- several


@pytest.mark.slow  # two processes
def test_two_processes_that_make_one_plan_end_with_one(bundle: Bundle, tmp_path: Path) -> None:
    program = (
        "import json, sys; from tnn_edge.runtime.vectors.store import store_vector; "
        "store_vector(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]), sys.argv[4], 2**30)"
    )
    hot, folder = gates(bundle, "0110"), tmp_path / "store"
    command = [sys.executable, "-c", program, str(bundle.path), bundle.digest, json.dumps(hot), str(folder)]
    children = [subprocess.Popen(command) for _ in range(2)]
    assert [child.wait() for child in children] == [0, 0]
    assert VectorStore(folder, MB).find(hot) is not None
    assert len(stored(VectorStore(folder, MB))) == 1


def test_what_a_killed_builder_left_is_cleared(bundle: Bundle, tmp_path: Path) -> None:
    store = VectorStore(tmp_path / "store", 100 * MB)
    (store.folder / ".left" / "plan").mkdir(parents=True)
    store.add(bundle, gates(bundle, "0110"))
    assert [path.name for path in store.folder.iterdir() if path.is_dir()] == list(stored(store))


@pytest.mark.parametrize("is_read", [False, True], ids=["before it is read", "after it was read"])
def test_a_plan_that_another_process_removes_leaves_the_vector_stepwise(
    bundle: Bundle, vectors: VectorPlans, is_read: bool, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    described = vectors.store.described

    def removed_meanwhile(gates: Mapping[str, str]) -> VectorPlan | None:
        before = described(gates)
        shutil.rmtree(vectors.store.folder)
        return before if is_read else described(gates)

    monkeypatch.setattr(vectors.store, "described", removed_meanwhile)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            assert vectors.run(X, gates(bundle, "0110")) is None
        vectors.settle()
    assert vectors.run(X, gates(bundle, "0110")) is None
    (warning,) = caplog.messages
    what = r"cannot read .*weights\.bin: No such file or directory" if is_read else "the plan of a gate vector left "
    assert re.search(rf"{what}.*; load the bundle again to try once more$", warning)


# --- limits on the child


def child_of_ours() -> psutil.Process:
    (child,) = (each for each in psutil.Process().children() if "confined_child.py" in " ".join(each.cmdline()))
    return child


def test_the_child_may_take_what_an_install_may_and_is_the_last_to_run(bundle: Bundle, vectors: VectorPlans) -> None:
    for _ in range(3):
        vectors.run(X, gates(bundle, "0110"))
    child, limits = child_of_ours(), limits_of(bundle, "cpu")
    # it limits itself, before it imports anything; the memory comes last
    while child.status() != psutil.STATUS_ZOMBIE and child.rlimit(psutil.RLIMIT_AS)[0] == psutil.RLIM_INFINITY:
        pass
    assert child.rlimit(psutil.RLIMIT_AS)[0] == limits.address_space_bytes
    assert child.rlimit(psutil.RLIMIT_CPU)[0] == limits.cpu_seconds
    assert child.nice() == 19
    vectors.settle()
    assert vectors.n_resident == 1


@pytest.mark.parametrize(
    ("limits", "fault"),
    [
        (Limits(64 * MB, None, 60.0), "needs more than 64 MB of memory"),
        (Limits(None, None, 0.01), "ran longer than 0.02 s"),
    ],
    ids=["memory", "time"],
)
def test_a_child_that_reaches_a_limit_leaves_the_vector_stepwise_with_one_warning(
    bundle: Bundle, vectors: VectorPlans, limits: Limits, fault: str, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tnn_edge.runtime.vectors.plans.limits_of", lambda bundle, device: limits)
    with caplog.at_level(logging.WARNING):
        for _ in range(8):
            assert vectors.run(X, gates(bundle, "0110")) is None
            vectors.settle()
    (warning,) = caplog.messages
    assert warning == (
        "a gate vector gets no plan and runs block by block: "
        f"linking a gate vector {fault}; load the bundle again to try once more"
    )
    assert not vectors.store.is_there(gates(bundle, "0110"))


# --- memory


def test_the_weights_of_a_vector_are_mapped_once_in_a_process(bundle: Bundle, plans: PlanSet) -> None:
    hot = gates(bundle, "0110")
    with VectorPlans(bundle, plans, hot_after=1) as one, VectorPlans(bundle, plans, hot_after=1) as other:
        for each in (one, other):
            each.run(X, hot)
            each.settle()
        assert (one.n_resident, other.n_resident) == (1, 1)
        plan = one.store.find(hot)
        assert plan is not None and plan.tensors
        assert n_mappings(plan.weights) == 1
        first, second = one.run(X, hot), other.run(X, hot)
        assert first is not None and second is not None
        assert np.array_equal(first, second)
    gc.collect()
    assert n_mappings(plan.weights) == 0


def n_mappings(path: Path) -> int:
    return sum(each.path == str(path) for each in psutil.Process().memory_maps(grouped=False))


# --- the end


def test_closing_ends_the_child_and_running_then_says_so(bundle: Bundle, plans: PlanSet) -> None:
    vectors = VectorPlans(bundle, plans, hot_after=1)
    vectors.run(X, gates(bundle, "0110"))
    assert vectors.is_building
    vectors.close()
    vectors.settle()
    assert not vectors.is_building
    with pytest.raises(RuntimeError, match="the plans of gate vectors are closed"):
        vectors.run(X, gates(bundle, "0110"))


def test_a_bundle_that_changed_is_not_linked(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is no longer the bundle that was loaded; load it again"):
        store_vector(str(bundle.path), "0" * 64, gates(bundle, "0110"), str(tmp_path / "store"), MB)


def test_hot_after_no_asking_is_refused(bundle: Bundle, plans: PlanSet) -> None:
    with pytest.raises(ValueError, match="hot_after must be at least 1, got 0"):
        VectorPlans(bundle, plans, hot_after=0)


def test_gates_that_cannot_be_linked_are_a_plan_error(bundle: Bundle, tmp_path: Path) -> None:
    blocks = tuple(b.model_copy(update={"branches": {}}) for b in bundle.manifest.blocks)
    broken = Bundle(bundle.path, bundle.manifest.model_copy(update={"blocks": blocks}), bundle.digest)
    with pytest.raises(
        PlanError, match=r"blocks cannot be linked for a gate vector: conv1\.weight is sliced by stage1"
    ):
        VectorStore(tmp_path / "store", MB).add(broken, gates(bundle, "0000"))
