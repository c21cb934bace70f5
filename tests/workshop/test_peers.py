"""All ways of running one network: they compute the same, and what is said of them follows from the figures."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

import export.peers.__main__
from export.peers.comparison import Comparison, Peer, PeerPoint, median_interval, read_comparisons
from export.peers.if_graph import choose_block, choose_network
from export.peers.measuring import check_answers, compare
from export.peers.picture import draw_peers_png
from export.peers.preparation import prepare
from export.peers.process import WayProcess
from export.peers.telling import headings, rows, verdict
from export.peers.ways import LABELS, OURS, FloatArray, find_way
from export.peers.work import Work, read_work
from tests.conftest import REPOSITORY
from tests.workshop.conftest import Exported
from tests.workshop.test_programs import call
from tnn_edge.bundle import open_bundle
from tnn_edge.errors import TnnEdgeError, VerificationError

DIAL = (1.0, 0.5, 0.25)
TORCH_FREE = [name for name in LABELS if name not in ("masked", "sliced", "compiled")]


@pytest.fixture(scope="module")
def work(resnext_w: Exported, tmp_path_factory: pytest.TempPathFactory) -> Work:
    """Everything that the ways read, of a widthwise network with statistics per point."""
    return prepare(resnext_w.run, DIAL, list(LABELS), tmp_path_factory.mktemp("work"), on_step=lambda step: None)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LABELS if name != "compiled"])
def test_every_way_computes_what_pytorch_computed_at_export(name: str, work: Work) -> None:
    answer = find_way(name).load(work, 1)
    inputs, golden = open_bundle(work.bundle).golden
    for u in (1.0, 0.25, 0.5, 1.0, 0.5):  # there and back: what one setting leaves must not reach the next
        for x, expected in zip(inputs, golden[work.point_at(u)], strict=True):
            logits = answer(x[None], u)
            assert logits.shape == (1, 4)
            np.testing.assert_allclose(logits[0], expected, atol=1e-4 * np.abs(expected).max())


@pytest.mark.slow
def test_ways_without_pytorch_load_none_of_it(work: Work) -> None:
    code = f"""
import sys
from pathlib import Path
from export.peers.ways import find_way
from export.peers.work import read_work
work = read_work(Path({str(work.folder)!r}))
for name in {TORCH_FREE!r}:
    find_way(name).load(work, 1)
print("torch" in sys.modules)
"""
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert told.stdout.strip() == "False"


@pytest.mark.slow
def test_work_is_read_as_it_was_written(work: Work) -> None:
    assert read_work(work.folder) == work


@pytest.mark.slow
def test_comparison_has_every_figure_of_every_way(work: Work) -> None:
    names = [OURS, "static_swapped", "if_blocks"]
    compared = compare(work, names, threads=1, rounds=9)
    assert [peer.name for peer in compared.peers] == names
    for peer in compared.peers:
        assert [point.u for point in peer.points] == list(DIAL)
        assert min(point.latency_p50_ms for point in peer.points) > 0.0
        assert 0.0 < peer.libraries_mb < peer.resident_mb < 1000.0
        assert peer.ready_ms > peer.load_ms > 0.0
        assert peer.disk_mb == sum(path.stat().st_size for path in find_way(peer.name).files(work)) / 1e6
    ours, swapped, _ = compared.peers
    assert {point.over_ours for point in ours.points} == {1.0}
    assert all(point.over_ours_interval is not None for point in swapped.points)
    assert swapped.switch_ms is not None
    assert swapped.switch_ms > swapped.points[0].latency_p50_ms  # it opens a session
    assert verdict(compared).startswith("colours_resnext_w, 1 thread: ")
    assert [len(row) for row in rows(compared)] == [len(headings(compared))] * 3


@pytest.mark.slow
def test_way_whose_process_ends_is_named_with_its_last_word(work: Work) -> None:
    with (
        pytest.raises(TnnEdgeError, match=r"static ONNX, file swapped: its process ended with code 1: ValueError"),
        WayProcess("static_swapped", work, 1) as process,
    ):
        process.visit(0.3, image=0)


@pytest.mark.slow
def test_way_that_the_machine_cannot_run_says_why(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with WayProcess("compiled", work, 1) as process:
        assert process.unavailable == "torch.compile needs a C++ compiler; no-such-compiler is not there"


def test_answers_that_differ_are_refused() -> None:
    golden = np.array([[1.0, -8.0]], dtype=np.float32)
    check_answers("masked", 0.5, [golden[0] + np.float32(0.007)], golden)
    with pytest.raises(
        VerificationError, match=r"PyTorch, masked at u=0\.5: logits differ .* by 1\.1e-03 of the largest"
    ):
        check_answers("masked", 0.5, [golden[0] + np.float32(0.009)], golden)
    with pytest.raises(VerificationError, match="by nan of the largest"):
        check_answers("masked", 0.5, [golden[0] * np.float32("nan")], golden)


def affine(scale: Sequence[float], size: int, *, offset: Sequence[float] = ()) -> onnx.ModelProto:
    """y = x repeated to `size`, times scale, plus offset: weights of 4 `size` bytes each."""
    text = f"""
    <ir_version: 10, opset_import: ["": 18]>
    affine (float[1, {len(scale)}] x) => (float[1, {size}] y)
    <float[{len(scale)}, {size}] w, float[{size}] b>
    {{ h = MatMul(x, w)
       y = Add(h, b) }}"""
    model = onnx.parser.parse_model(text)
    weights = {
        "w": np.outer(scale, np.ones(size)).astype(np.float32),
        "b": np.resize(np.array(offset or [0.0], dtype=np.float32), size),
    }
    model.graph.initializer.extend(onnx.numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def answers(model: onnx.ModelProto, x: FloatArray, n: int) -> list[FloatArray]:
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": x, "point": np.array(i)})[0] for i in range(n)]


@pytest.mark.parametrize("share_weights", [False, True])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_if_over_networks_answers_as_the_network_that_is_chosen(n: int, share_weights: bool) -> None:
    x = np.array([[2.0, 3.0]], dtype=np.float32)
    models = [affine([i, 1.0], 3, offset=[10.0 * i]) for i in range(n)]
    found = answers(choose_network(models, share_weights=share_weights), x, n)
    for i, logits in enumerate(found):
        np.testing.assert_allclose(logits, [[2.0 * i + 3.0 + 10.0 * i] * 3])


def test_weights_that_networks_have_in_common_are_stored_once() -> None:
    models = [affine([1.0, 2.0], 1000, offset=[float(i)]) for i in range(4)]  # 8,000 bytes in common, 4,000 own each
    apart, shared = (choose_network(models, share_weights=each).ByteSize() for each in (False, True))
    assert apart == pytest.approx(4 * 12_000, rel=0.1)
    assert shared == pytest.approx(8_000 + 4 * 4_000, rel=0.1)


def test_if_per_block_answers_as_the_chain_that_is_chosen() -> None:
    """Blocks that are the same, that differ in width, and that are not there."""
    files = {
        "first": affine([1.0, 1.0], 2),
        "narrow": affine([1.0, 1.0], 2, offset=[5.0]),
        "wide": affine([1.0, 1.0], 4),
        "last2": affine([1.0, 1.0], 3),
        "last4": affine([1.0, 1.0, 1.0, 1.0], 3),
    }
    chains: list[Mapping[str, str | None]] = [
        {"a": "first", "b": "wide", "c": "last4"},
        {"a": "first", "b": "narrow", "c": "last2"},
        {"a": "first", "b": None, "c": "last2"},
    ]
    x = np.array([[2.0, 3.0]], dtype=np.float32)  # a: [5, 5]
    wide, narrow, absent = answers(choose_block(chains, files), x, 3)
    np.testing.assert_allclose(wide, [[4 * 10.0] * 3])
    np.testing.assert_allclose(narrow, [[2 * 15.0] * 3])
    np.testing.assert_allclose(absent, [[2 * 5.0] * 3])


def test_interval_of_a_median_is_that_of_the_sign_test() -> None:
    tails = [2 * math.comb(15, k) / 2**15 for k in range(4)]
    assert sum(tails[:3]) <= 0.01 < sum(tails)
    assert median_interval([float(i) for i in range(15)]) == (2.0, 12.0)
    assert median_interval([1.0] * 7) is None  # 2 / 2^7 > 1 %
    assert median_interval([1.0] * 8) == (1.0, 1.0)


@given(st.lists(st.floats(0.1, 10.0), min_size=8, max_size=60))
def test_interval_holds_the_median(values: list[float]) -> None:
    interval = median_interval(values)
    assert interval is not None
    assert interval[0] <= float(np.median(values)) <= interval[1]


def test_interval_misses_the_true_median_as_rarely_as_it_says() -> None:
    rng = np.random.default_rng(0)
    draws = rng.exponential(size=(2000, 25))
    intervals = [median_interval(row.tolist()) for row in draws]
    n_missed = sum(1 for found in intervals if found is None or not found[0] <= math.log(2.0) <= found[1])
    assert n_missed <= 0.01 * len(draws) + 3 * math.sqrt(0.01 * len(draws))


def peer(name: str, **points: Any) -> Peer:
    fields = {
        "u": 0.5, "latency_p50_ms": 10.0, "over_ours": 1.0, "over_ours_interval": None,
        "switch_ms": 0.5, "first_ms": 11.0, "resident_mb": 100.0,
    }  # fmt: skip
    return Peer(name=name, points=(PeerPoint(**{**fields, **points}),), load_ms=1.0, libraries_mb=40.0, disk_mb=9.0)


def compared(*others: Peer) -> Comparison:
    return Comparison(
        network="small", threads=2, rounds=20, machine={"cpu": "a CPU"}, interpreter_mb=9.0, peers=(peer(OURS), *others)
    )


@pytest.mark.parametrize(
    ("interval", "resident_mb", "is_better"),
    [
        ((0.90, 0.99), 99.0, True),
        ((0.90, 0.99), 100.0, False),  # as large
        ((0.90, 1.01), 50.0, False),  # perhaps not faster
        ((1.10, 1.20), 50.0, False),
        ((0.50, 0.60), 200.0, False),
    ],
)
def test_a_way_is_better_that_is_surely_faster_and_smaller(
    interval: tuple[float, float], resident_mb: float, is_better: bool
) -> None:
    other = peer("if_blocks", over_ours=0.95, over_ours_interval=interval, resident_mb=resident_mb, switch_ms=17.0)
    told = verdict(compared(other))
    if is_better:
        assert told == (
            "small, 2 threads: both faster and smaller than tnn_edge: "
            "ONNX If per block (u=0.5: 5.0 % faster, 1 MB less; up to 17.0 ms to switch)."
        )
    else:
        assert told == "small, 2 threads: no other way is both faster and smaller than tnn_edge at any u."


def test_too_few_rounds_prove_nothing() -> None:
    told = verdict(compared(peer("sliced", over_ours=9.0)))
    assert told == "small, 2 threads: 20 rounds are too few to say whether another way is faster."


def test_a_row_shows_its_figures() -> None:
    other = peer("chained", latency_p50_ms=123.4, over_ours=12.34, over_ours_interval=(12.0, 13.0), switch_ms=-0.1)
    missing = Peer(name="compiled", unavailable="torch.compile needs a C++ compiler; g++ is not there")
    comparison = compared(other, missing)
    assert headings(comparison) == ["way", "u=0.5", "switch ms", "ready s", "resident", "libraries", "disk MB"]
    assert rows(comparison)[1:] == [
        ["a session per block", "123.4 (12)", "0.00", "0.01", "100", "40", "9.0"],
        ["torch.compile of sliced: torch.compile needs a C++ compiler; g++ is not there", *["-"] * 6],
    ]


def test_figures_are_kept_and_shown_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = Peer(name="compiled", unavailable="no compiler")
    comparison = compared(peer("sliced", over_ours=1.5, over_ours_interval=(1.4, 1.6)), missing)
    kept, again, png = tmp_path / "kept.json", tmp_path / "again.json", tmp_path / "peers.png"
    kept.write_text(json.dumps({"comparisons": [comparison.as_json()]}))
    assert read_comparisons(kept) == [comparison]
    both = (kept, kept, "--out", again, "--png", png)
    assert call(export.peers.__main__.main, *both, monkeypatch=monkeypatch) == 0
    assert read_comparisons(again) == [comparison, comparison]
    assert png.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out.count("no other way is both faster and smaller than tnn_edge at any u.") == 2


def test_picture_has_a_row_for_each_comparison() -> None:
    comparison = compared(peer("sliced"))
    heights = [int.from_bytes(draw_peers_png([comparison] * n)[20:24], "big") for n in (1, 2)]
    assert heights[1] - heights[0] == 420  # a row's inches at 100 pixels each


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["none"], 1, "none is not a training run"),
        (["other.json"], 1, "other.json holds no comparisons of python -m export.peers"),
        (["run", "--u", "1.5"], 1, "throttle u must lie in [0, 1], got 1.5"),
        (["run", "--out", "no/peers.json"], 1, "folder no does not exist; make it first"),
        (["run", "--way", "fast"], 2, "'fast' is no way"),
    ],
)
def test_mistake_ends_with_one_clear_line(
    args: list[str], code: int, message: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"comparisons": [{"threads": 1}]}')
    assert call(export.peers.__main__.main, *args, monkeypatch=monkeypatch) == code
    stderr = capsys.readouterr().err
    assert message in stderr
    assert "Traceback" not in stderr


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_all_ways_of_a_depthwise_network_in_one_table(resnet_d: Exported, tmp_path: Path, threads: int) -> None:
    work = prepare(resnet_d.run, DIAL, list(LABELS), tmp_path, on_step=lambda step: None)
    comparison = compare(work, list(LABELS), threads=threads, rounds=8)
    assert [each.name for each in comparison.peers] == list(LABELS)
    assert {each.name for each in comparison.peers if each.unavailable} <= {"compiled"}
    assert "too few" not in verdict(comparison)
    by_name = {each.name: each for each in comparison.peers}
    assert by_name["if_blocks"].disk_mb < by_name["if_networks"].disk_mb  # a block that is on is the same at any u
    assert by_name["masked"].resident_mb > by_name["static_resident"].resident_mb  # PyTorch itself
