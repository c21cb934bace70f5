"""8-bit integers through the engine: installed beside float32, within the bound that the bundle declares."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest

import tnn_edge
from tests.device.calibrated import WIDTHS, calibrated_copy, with_ranges
from tnn_edge import Engine
from tnn_edge.bundle import Bundle, open_bundle
from tnn_edge.bundle.quantisation import RANGES, read_ranges
from tnn_edge.errors import BundleError, ProviderError, VerificationError
from tnn_edge.runtime import PlanSet, find_plans, install
from tnn_edge.runtime.linking.quantise import weight_bits
from tnn_edge.runtime.verify import verify

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def calibrated(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The tiny bundle with ranges from its golden inputs. Read only."""
    return calibrated_copy(tiny_bundle, tmp_path_factory.mktemp("calibrated") / "bundle")


@pytest.fixture(scope="module")
def both(calibrated: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, Engine]]:
    """The float32 and the int8 engine of the calibrated bundle, over one cache."""
    cache = tmp_path_factory.mktemp("both")
    with (
        tnn_edge.load(calibrated.path, device="cpu", cache=cache) as exact,
        tnn_edge.load(calibrated.path, device="cpu", cache=cache, precision="int8") as rounded,
    ):
        yield exact, rounded


def logits_of(engine: Engine, images: Array) -> Array:
    """Of every operating point on every image, shape [P, N, classes]."""
    return np.stack([np.concatenate([engine.run_point(x[None], p).logits for x in images]) for p in engine.points])


def turned(images: Array) -> Array:
    """Each image in the eight ways in which a square lies on itself."""
    quarters = [np.rot90(images, k, axes=(2, 3)) for k in range(4)]
    return np.concatenate([*quarters, *(each[..., ::-1] for each in quarters)])


# --- what it answers


def test_answers_lie_within_the_bound_that_the_bundle_declares(calibrated: Bundle, both: tuple[Engine, Engine]) -> None:
    exact, rounded = both
    spec = calibrated.manifest.quantisation
    assert spec is not None
    assert spec.with_bits(7).tolerance != spec.with_bits(8).tolerance
    assert rounded.tolerance == spec.with_bits(weight_bits()).tolerance
    assert exact.tolerance == calibrated.manifest.tolerance
    inputs, golden = calibrated.golden
    errors = np.abs(logits_of(rounded, inputs) - golden).max(axis=(1, 2)) / np.abs(golden).max(axis=(1, 2))
    assert errors.max() <= rounded.tolerance
    assert not verify(rounded).faults
    assert [point.error for point in verify(rounded).points] == pytest.approx(errors.tolist(), rel=1e-6)


def test_answers_differ_from_float32_and_the_class_only_where_it_was_in_doubt(both: tuple[Engine, Engine]) -> None:
    """In doubt: the likeliest two are no further apart than twice the error on golden inputs, which these are not."""
    exact, rounded = (logits_of(engine, turned(engine.bundle.golden[0])) for engine in both)
    assert (np.abs(rounded - exact).max(axis=(1, 2)) > 1e-3 * np.abs(exact).max(axis=(1, 2))).all()
    golden = both[0].bundle.golden[1]
    errors = np.array([p.error for p in verify(both[1]).points]) * np.abs(golden).max(axis=(1, 2))
    second, first = np.moveaxis(np.sort(exact, axis=2)[..., -2:], 2, 0)
    is_decided = first - second > 2 * errors[:, None]
    assert is_decided.sum() >= 30
    assert (exact.argmax(axis=2) == rounded.argmax(axis=2))[is_decided].all()


def test_a_throttle_selects_the_same_point_and_work_in_both(both: tuple[Engine, Engine]) -> None:
    exact, rounded = both
    x = exact.bundle.golden[0][:1]
    for u in (0.0, 0.39, 0.4, 0.79, 1.0):
        one, other = exact.run(x, u), rounded.run(x, u)
        assert (one.point, one.macs, one.blocks_run) == (other.point, other.macs, other.blocks_run)


def test_plans_compute_in_integers(both: tuple[Engine, Engine]) -> None:
    """All but the mean over the image: before it and after it there is a change of type, as at both ends."""
    exact, rounded = (
        [Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node) for path in plans.paths]
        for plans in (engine.plans for engine in both)
    )
    for floats, integers in zip(exact, rounded, strict=True):
        assert integers["QLinearConv"] == floats["Conv"] + floats["FusedConv"] > 0
        assert integers["QuantizeLinear"] == integers["DequantizeLinear"] + 1 == 2
        assert not integers["Conv"] + integers["FusedConv"] + integers["Gemm"] + integers["Relu"] + integers["Add"]


# --- plans of two precisions beside each other


def times_of(plans: PlanSet) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (plans.folder, *plans.folder.iterdir())}


def test_each_precision_has_plans_of_its_own_that_outlive_an_install_of_the_other(
    calibrated: Bundle, both: tuple[Engine, Engine], tmp_path: Path
) -> None:
    exact, rounded = (engine.plans for engine in both)
    assert (exact.precision, rounded.precision) == ("float32", "int8")
    assert exact.folder != rounded.folder
    assert find_plans(calibrated, "cpu", exact.folder.parents[1]) == exact  # int8 came second
    shutil.copytree(rounded.folder, tmp_path / "plans" / rounded.folder.name)
    moved = find_plans(calibrated, "cpu", tmp_path, precision="int8")
    assert moved is not None
    assert find_plans(calibrated, "cpu", tmp_path) is None
    before = times_of(moved)
    install(calibrated, "cpu", tmp_path)  # and now float32
    assert times_of(moved) == before
    assert install(calibrated, "cpu", tmp_path, precision="int8") == moved


def test_plans_of_one_precision_are_not_taken_for_those_of_the_other(
    calibrated: Bundle, both: tuple[Engine, Engine], tmp_path: Path
) -> None:
    exact, rounded = (engine.plans for engine in both)
    for mine, other in ((exact, rounded), (rounded, exact)):
        shutil.copytree(mine.folder, tmp_path / "plans" / other.folder.name)
        assert find_plans(calibrated, "cpu", tmp_path, precision=other.precision) is None


# --- what is refused


def test_a_bundle_without_ranges_says_how_to_get_them(tiny_bundle: Path, tmp_path: Path) -> None:
    message = rf"^{re.escape(str(tiny_bundle))} has no ranges for 8-bit integers; python -m export\.int8 .* makes a"
    with pytest.raises(BundleError, match=message):
        tnn_edge.load(tiny_bundle, device="cpu", cache=tmp_path, precision="int8")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ask", [find_plans, install])
def test_integers_on_cuda_are_refused(ask: Callable[..., object], calibrated: Bundle, tmp_path: Path) -> None:
    message = r"^8-bit integers run on the CPU only, not on cuda; pass device='cpu'|^there is no NVIDIA driver here"
    with pytest.raises(ProviderError, match=message):
        ask(calibrated, "cuda", tmp_path, precision="int8")
    assert not list(tmp_path.iterdir())


def damaged(calibrated: Bundle, folder: Path, *, tolerance: float, stem_is_narrow: bool) -> Path:
    ranges = read_ranges(calibrated.path / RANGES, len(calibrated.manifest.operating_points))
    if stem_is_narrow:
        ranges["stem/y"] = ranges["stem/y"] / np.float32(20)
    shutil.copytree(calibrated.path, folder)
    with_ranges(folder, ranges, dict.fromkeys(WIDTHS, tolerance))
    return folder


@pytest.mark.parametrize(("tolerance", "stem_is_narrow"), [(1e-4, False), (0.2, True)], ids=["bound", "ranges"])
def test_a_bundle_that_misses_its_bound_is_not_installed(
    calibrated: Bundle, tolerance: float, stem_is_narrow: bool, tmp_path: Path
) -> None:
    """A bound as tight as float32's, and ranges of a twentieth of what the stem gives."""
    folder = damaged(calibrated, tmp_path / "bundle", tolerance=tolerance, stem_is_narrow=stem_is_narrow)
    with pytest.raises(VerificationError, match=rf"u=0\.0000: error \d\.\d\de-0\d exceeds {tolerance:.2g}"):
        tnn_edge.load(folder, device="cpu", cache=tmp_path / "cache", precision="int8")
    assert find_plans(open_bundle(folder), "cpu", tmp_path / "cache", precision="int8") is None
