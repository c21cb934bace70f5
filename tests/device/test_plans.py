"""Installing: once per machine, whole or not at all, and nothing that lies in the cache is trusted unread."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import onnx
import onnxruntime
import pytest

import tnn_edge
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.errors import BundleError, PlanError
from tnn_edge.runtime import PlanSet, find_plans, install
from tnn_edge.runtime.installing import building, plans
from tnn_edge.runtime.installing.plan_key import key_digest
from tnn_edge.runtime.linking.optimising import save_optimised
from tnn_edge.runtime.verify import verify

NOBODY = 65534
INDEX, WEIGHTS, PLAN = "plans.json", "weights.bin", "point_02.onnx"


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def built(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the tiny bundle is installed. Read only."""
    cache = tmp_path_factory.mktemp("built")
    install(bundle, "cpu", cache)
    return cache


@pytest.fixture
def installed(bundle: Bundle, built: Path, tmp_path: Path) -> PlanSet:
    """Plans in ``tmp_path / "cache"`` to damage."""
    shutil.copytree(built, tmp_path / "cache")
    found = find_plans(bundle, "cpu", tmp_path / "cache")
    assert found is not None
    return found


def times_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder, *folder.iterdir())}


def is_right(bundle: Bundle, cache: Path) -> bool:
    with tnn_edge.load(bundle.path, device="cpu", cache=cache) as engine:
        return not verify(engine).faults


def entries(cache: Path) -> list[str]:
    """What lies beside the plans, without the lock."""
    return sorted(path.name for path in (cache / "plans").iterdir() if path.suffix != ".lock")


def test_an_install_writes_a_plan_for_each_point_and_one_weight_file(bundle: Bundle, built: Path) -> None:
    found = find_plans(bundle, "cpu", built)
    assert found is not None
    assert [path.name for path in found.paths] == [f"point_{i:02d}.onnx" for i in range(5)]
    assert {path.name for path in found.folder.iterdir()} == {INDEX, WEIGHTS, *(path.name for path in found.paths)}
    assert found.macs == tuple(point.macs for point in bundle.manifest.operating_points)
    assert (found.folder / WEIGHTS).stat().st_size == found.stored_bytes <= found.offered_bytes
    assert found.folder.parent == built / "plans"
    assert entries(built) == [found.folder.name]


def test_a_second_install_finds_the_first(bundle: Bundle, installed: PlanSet, tmp_path: Path) -> None:
    before = times_of(installed.folder)
    assert install(bundle, "cpu", tmp_path / "cache") == installed
    assert times_of(installed.folder) == before


def test_without_an_install_nothing_is_found(bundle: Bundle, tmp_path: Path) -> None:
    assert find_plans(bundle, "cpu", tmp_path) is None
    assert not list(tmp_path.iterdir())


def test_the_cache_folder_is_what_the_environment_names(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TNN_EDGE_CACHE", str(tmp_path / "named"))
    assert plans.cache_folder() == tmp_path / "named"
    monkeypatch.delenv("TNN_EDGE_CACHE")
    assert plans.cache_folder().name == "tnn-edge"


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


def link(path: Path) -> None:
    path.symlink_to(path.rename(path.parents[2] / path.name))


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.usefixtures("builds_in_this_process")
@pytest.mark.parametrize("damage", [cut, flip, link, fifo, pytest.param(empty, marks=pytest.mark.slow), Path.unlink])
@pytest.mark.parametrize("name", [PLAN, WEIGHTS, INDEX])
def test_a_damaged_set_is_built_anew(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(installed.folder / name)
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None
    again = install(bundle, "cpu", tmp_path / "cache")
    assert (again.folder, again.macs) == (installed.folder, installed.macs)
    assert find_plans(bundle, "cpu", tmp_path / "cache") == again
    assert entries(tmp_path / "cache") == [installed.folder.name]


def folder_of_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("no plans")


def folder_that_links_nowhere(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder.with_name("nowhere"))


def folder_that_links_to_damaged_plans(folder: Path) -> None:
    flip(folder / WEIGHTS)
    folder.symlink_to(folder.rename(folder.parents[1] / "elsewhere"))


@pytest.mark.usefixtures("builds_in_this_process")
@pytest.mark.parametrize("damage", [folder_of_a_file, folder_that_links_nowhere, folder_that_links_to_damaged_plans])
def test_what_is_no_folder_of_plans_is_replaced(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(installed.folder)
    (installed.folder.parent / f".{installed.folder.name}.left").symlink_to(tmp_path)
    assert install(bundle, "cpu", tmp_path / "cache") == installed
    assert not installed.folder.is_symlink()
    assert entries(tmp_path / "cache") == [installed.folder.name]


@pytest.mark.usefixtures("builds_in_this_process")
def test_a_lock_that_is_a_link_does_not_empty_what_it_names(bundle: Bundle, tmp_path: Path) -> None:
    folder = install(bundle, "cpu", tmp_path / "cache").folder
    (tmp_path / "other").write_text("not ours")
    folder.with_suffix(".lock").unlink()
    folder.with_suffix(".lock").symlink_to(tmp_path / "other")
    shutil.rmtree(folder)
    install(bundle, "cpu", tmp_path / "cache")
    assert (tmp_path / "other").read_text() == "not ours"


def rewrite_index(folder: Path, **changed: Any) -> None:
    """Change the index and make its digest agree."""
    index = json.loads((folder / INDEX).read_text()) | changed
    del index["sha256"]
    (folder / INDEX).write_text(json.dumps(index | {"sha256": key_digest(index)}))


@pytest.mark.usefixtures("builds_in_this_process")
def test_a_damaged_set_is_right_after_the_next_load(bundle: Bundle, installed: PlanSet, tmp_path: Path) -> None:
    flip(installed.folder / WEIGHTS)
    assert is_right(bundle, tmp_path / "cache")


@pytest.mark.usefixtures("builds_in_this_process")
def test_an_index_that_was_edited_and_is_still_json_is_built_anew(
    bundle: Bundle, installed: PlanSet, tmp_path: Path
) -> None:
    path = installed.folder / INDEX
    index = json.loads(path.read_text())
    path.write_text(json.dumps(index | {"files": {}}))
    flip(installed.folder / PLAN)
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None
    assert is_right(bundle, tmp_path / "cache")


@pytest.mark.parametrize(
    "text",
    ["[]", "null", "3", '"text"', "{}", '{"sha256": 1}', pytest.param("[" * 100_000, id="deep")],
)
def test_an_index_that_is_something_else_is_built_anew(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, text: str
) -> None:
    (installed.folder / INDEX).write_text(text)
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None


@pytest.mark.parametrize("part", ["onnxruntime", "bundle", "device", "hardware", "linker", "optimisation"])
def test_plans_that_another_key_made_are_stale(bundle: Bundle, installed: PlanSet, tmp_path: Path, part: str) -> None:
    key = json.loads((installed.folder / INDEX).read_text())["key"]
    rewrite_index(installed.folder)
    assert find_plans(bundle, "cpu", tmp_path / "cache") == installed
    rewrite_index(installed.folder, key=key | {part: "another"})
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None


@pytest.mark.usefixtures("builds_in_this_process")
def test_plans_of_another_onnxruntime_are_built_anew(bundle: Bundle, installed: PlanSet, tmp_path: Path) -> None:
    key = json.loads((installed.folder / INDEX).read_text())["key"]
    rewrite_index(installed.folder, key=key | {"onnxruntime": "1.0.0"})
    install(bundle, "cpu", tmp_path / "cache")
    assert json.loads((installed.folder / INDEX).read_text())["key"]["onnxruntime"] == onnxruntime.__version__
    assert is_right(bundle, tmp_path / "cache")


def test_another_onnxruntime_has_a_folder_of_its_own(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "99.0")
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None


def test_an_edited_bundle_has_plans_of_its_own(bundle_copy: Path, built: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest | {"licence": "another"}))
    assert find_plans(open_bundle(bundle_copy), "cpu", built) is None


@pytest.mark.usefixtures("builds_in_this_process")
def test_a_bundle_with_a_strange_name_stays_inside_the_cache(bundle_copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest | {"name": "../../out of here/" + "x" * 300}))
    done = install(open_bundle(bundle_copy), "cpu", tmp_path / "cache")
    assert done.folder.parent == tmp_path / "cache" / "plans"
    assert is_right(open_bundle(bundle_copy), tmp_path / "cache")


class BreaksHalfWay:
    """A stand-in for what builds, that fails with a file written."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __call__(self, bundle: Bundle, device: Any, precision: Any, folder: Path) -> None:
        folder.mkdir()
        (folder / WEIGHTS).write_bytes(b"half")
        raise self.error


@pytest.mark.usefixtures("builds_in_this_process")
@pytest.mark.parametrize("error", [KeyboardInterrupt("Ctrl-C"), PlanError("stop"), MemoryError("none left")])
def test_an_interrupted_install_leaves_nothing_and_the_next_works(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(plans, "_build", BreaksHalfWay(error))
        with pytest.raises(type(error), match=str(error)):
            install(bundle, "cpu", tmp_path)
    assert entries(tmp_path) == []
    assert find_plans(bundle, "cpu", tmp_path) is None
    assert install(bundle, "cpu", tmp_path).folder.is_dir()


@pytest.mark.usefixtures("builds_in_this_process")
def test_an_interrupted_rebuild_leaves_nothing_that_is_trusted(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(installed.folder / WEIGHTS)
    with monkeypatch.context() as patch:
        patch.setattr(plans, "_build", BreaksHalfWay(KeyboardInterrupt("Ctrl-C")))
        with pytest.raises(KeyboardInterrupt, match="Ctrl-C"):
            install(bundle, "cpu", tmp_path / "cache")
    assert find_plans(bundle, "cpu", tmp_path / "cache") is None
    assert is_right(bundle, tmp_path / "cache")


def test_a_full_disk_is_an_error_with_a_way_out(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def optimised(model: Any, folder: Path, *_: object) -> NoReturn:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(building, "_optimised", optimised)
    message = rf"^cannot write plans to {re.escape(str(tmp_path))}: No space left on device; free space, or set"
    with pytest.raises(PlanError, match=message):
        building.build(str(bundle.path), bundle.digest, "cpu", "float32", str(tmp_path / "plans"))


def test_a_bundle_that_changes_while_it_is_installed_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"changed while it was installed; install it again$"):
        building.build(str(bundle.path), "0" * 64, "cpu", "float32", str(tmp_path / "plans"))


def test_macs_that_the_manifest_does_not_declare_are_refused(bundle_copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["operating_points"][2]["macs"] += 1
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    declared = manifest["operating_points"][2]["macs"]
    with pytest.raises(BundleError, match=rf": {declared - 1} MACs in the linked graph at u=\S+, {declared} declared$"):
        install(open_bundle(bundle_copy), "cpu", tmp_path)
    assert entries(tmp_path) == []


INSTALL = """
import sys
from pathlib import Path
from tnn_edge.bundle import open_bundle
from tnn_edge.runtime import install
from tnn_edge.runtime.installing import plans
import tnn_edge.bundle.structure, tnn_edge.runtime.installing.weight_store
import tnn_edge.runtime.linking.linker, tnn_edge.runtime.linking.macs

def say(text):
    print(text, flush=True)

{wrap}
say("ready")
sys.stdin.readline()
say(install(open_bundle(sys.argv[1]), "cpu", Path(sys.argv[2])).folder)
"""
COUNT_BUILDS = """
build = plans._build
def counted(*args):
    say("building")
    build(*args)
plans._build = counted
"""
STALL = """
build = plans._build
def stalled(*args):
    args[-1].mkdir()
    (args[-1] / "weights.bin").write_bytes(b"half")
    say("half way")
    sys.stdin.readline()
    args[-1].joinpath("weights.bin").unlink()
    args[-1].rmdir()
    build(*args)
plans._build = stalled
"""


def start(bundle: Bundle, cache: Path, wrap: str) -> subprocess.Popen[str]:
    """An installing process that has imported everything and waits for a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", INSTALL.format(wrap=wrap), str(bundle.path), str(cache)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.slow  # three processes; the next test has two of them in an order that is known
def test_two_installs_at_once_build_one_set(bundle: Bundle, tmp_path: Path) -> None:
    processes = [start(bundle, tmp_path, COUNT_BUILDS) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].split("\n") for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sum(lines.count("building") for lines in said) == 1
    folders = {lines[-2] for lines in said}
    assert [Path(folder).name for folder in folders] == entries(tmp_path)
    assert is_right(bundle, tmp_path)


def test_an_install_waits_for_the_one_that_runs(bundle: Bundle, tmp_path: Path) -> None:
    first, second = start(bundle, tmp_path, STALL), start(bundle, tmp_path, COUNT_BUILDS)
    assert first.stdin is not None and first.stdout is not None
    first.stdin.write("go\n")
    first.stdin.flush()
    assert first.stdout.readline() == "half way\n"
    assert second.stdin is not None
    second.stdin.write("go\n")
    second.stdin.flush()
    assert find_plans(bundle, "cpu", tmp_path) is None
    folder = first.communicate("go on\n", timeout=60)[0]
    assert second.communicate(timeout=60)[0] == folder
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_killed_install_leaves_nothing_under_the_final_name_and_the_next_works(
    bundle: Bundle, tmp_path: Path
) -> None:
    process = start(bundle, tmp_path, STALL)
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "half way\n"
    process.kill()
    process.communicate(timeout=60)
    (left,) = entries(tmp_path)
    assert left.startswith(".")
    assert find_plans(bundle, "cpu", tmp_path) is None
    done = install(bundle, "cpu", tmp_path)
    assert entries(tmp_path) == [done.folder.name]
    assert is_right(bundle, tmp_path)


@pytest.mark.parametrize("inside", ["", "plans"])
def test_a_cache_that_cannot_be_written_is_an_error_with_a_way_out(bundle: Bundle, tmp_path: Path, inside: str) -> None:
    cache = tmp_path / "cache"
    if inside:
        cache.mkdir()
    (cache / inside).write_text("a file where a folder must be")
    message = f"^cannot write plans to {re.escape(str(cache))}.*; set TNN_EDGE_CACHE to another folder$"
    with pytest.raises(PlanError, match=message):
        install(bundle, "cpu", cache)
    assert find_plans(bundle, "cpu", cache) is None


@contextmanager
def unprivileged() -> Iterator[None]:
    """Root may write into a read-only folder: be nobody for a moment."""
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)


def test_a_read_only_cache_is_an_error_with_a_way_out(bundle: Bundle, tmp_path: Path) -> None:
    assert find_plans(bundle, "cpu", tmp_path) is None  # imports what install needs while this user may read it
    tmp_path.chmod(0o500)
    try:
        with unprivileged(), pytest.raises(PlanError, match="Permission denied; set TNN_EDGE_CACHE to another folder"):
            install(bundle, "cpu", tmp_path)
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.usefixtures("builds_in_this_process")
def test_plans_that_change_while_they_are_written_are_refused(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = plans._build

    def spoil(bundle: Bundle, device: Any, precision: Any, folder: Path) -> None:
        build(bundle, device, precision, folder)
        flip(folder / WEIGHTS)

    monkeypatch.setattr(plans, "_build", spoil)
    with pytest.raises(PlanError, match="changed while they were written; run the install again"):
        install(bundle, "cpu", tmp_path)


def test_an_unsound_bundle_is_not_installed(bundle_copy: Path, tmp_path: Path) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["blocks"][1]["input"] = "z"
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="the manifest says otherwise"):
        install(open_bundle(bundle_copy), "cpu", tmp_path)
    assert entries(tmp_path) == []


def test_a_graph_that_onnx_runtime_refuses_is_a_plan_error(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="ONNX Runtime cannot load a linked graph: "):
        save_optimised(onnx.ModelProto(), tmp_path / "optimised.onnx")


def test_equal_plans_share_their_bytes(bundle: Bundle, built: Path) -> None:
    found = find_plans(bundle, "cpu", built)
    assert found is not None
    tensors = [
        tensor
        for path in found.paths
        for tensor in onnx.load_model(str(path), load_external_data=False).graph.initializer
        if tensor.data_location == onnx.TensorProto.EXTERNAL
    ]
    assert {entry.value for t in tensors for entry in t.external_data if entry.key == "location"} == {WEIGHTS}
    sizes = [int(entry.value) for t in tensors for entry in t.external_data if entry.key == "length"]
    assert found.stored_bytes < found.offered_bytes == sum(sizes)


def test_plans_in_a_cache_that_is_only_read_are_found(
    bundle: Bundle, installed: PlanSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> NoReturn:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refused)
    monkeypatch.setattr(plans, "_lock", refused)
    assert install(bundle, "cpu", tmp_path / "cache") == installed
    with pytest.raises(PlanError, match="Read-only file system; set TNN_EDGE_CACHE to another folder"):
        install(bundle, "cpu", tmp_path / "other")


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOMEM, "Cannot allocate memory; free memory"),
        (errno.ENOSPC, "No space left on device; free space, or set TNN_EDGE_CACHE to another folder"),
        (errno.EACCES, "Permission denied; set TNN_EDGE_CACHE to another folder"),
    ],
)
def test_the_way_out_fits_what_went_wrong(tmp_path: Path, number: int, says: str) -> None:
    err = plans.cannot_write(tmp_path, OSError(number, os.strerror(number)))
    assert str(err) == f"cannot write plans to {tmp_path}: {says}"


def test_a_cache_whose_path_is_not_utf8_names_the_way_out(bundle: Bundle, tmp_path: Path) -> None:
    cache = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(PlanError, match=r"caf\\udce9.* is not UTF-8; set TNN_EDGE_CACHE to another folder$"):
        install(bundle, "cpu", cache)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("builds_in_this_process")
@pytest.mark.parametrize("name", ["\u4e2d" * 64, "\U00020000" * 64])
def test_a_long_name_of_wide_letters_makes_a_folder(bundle_copy: Path, tmp_path: Path, name: str) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest | {"name": name}))
    assert install(open_bundle(bundle_copy), "cpu", tmp_path / "cache").folder.is_dir()
