"""The engine: the right point at every throttle, clear refusals, and switches that cost nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnn_edge
from tests.device.profiles import cost, profile
from tnn_edge import Engine, SessionSettings
from tnn_edge.errors import BundleError, InputError, LimitError, PlanError, ThrottleRangeError
from tnn_edge.runtime.cost_profile import ProfileKey, keep_profile

Array = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def x(engine: Engine) -> Array:
    return engine.bundle.golden[0][:1].copy()


@pytest.fixture
def own_engine(tiny_bundle: Path) -> Iterator[Engine]:
    """An engine that a test may close."""
    with tnn_edge.load(tiny_bundle, device="cpu") as loaded:
        yield loaded


def test_every_point_gives_the_golden_outputs(engine: Engine) -> None:
    inputs, outputs = engine.bundle.golden
    for point, golden in zip(engine.points, outputs, strict=True):
        logits = np.concatenate([engine.run(each[None], point.u).logits for each in inputs])
        assert np.abs(logits - golden).max() <= 1e-4 * np.abs(golden).max()


@given(u=st.floats(0.0, 1.0))
def test_any_throttle_runs_the_point_at_or_below_it(engine: Engine, x: Array, u: float) -> None:
    result = engine.run(x, u)
    assert result.u == u
    assert result.point.u == max(p.u for p in engine.points if p.u <= u)
    np.testing.assert_array_equal(result.logits, engine.run(x, result.point.u).logits)


def test_a_throttle_just_below_a_point_runs_the_one_below(engine: Engine, x: Array) -> None:
    for lower, upper in zip(engine.points, engine.points[1:], strict=False):
        just_below = engine.run(x, float(np.nextafter(upper.u, 0.0)))
        assert just_below.point == lower
        np.testing.assert_array_equal(just_below.logits, engine.run(x, lower.u).logits)
        assert not np.array_equal(just_below.logits, engine.run(x, upper.u).logits)


def test_without_a_throttle_everything_runs(engine: Engine, x: Array) -> None:
    result = engine.run(x)
    assert (result.u, result.point) == (1.0, engine.points[-1])


def test_a_result_says_what_ran(engine: Engine, x: Array) -> None:
    for point in engine.points:
        result = engine.run(x, point.u)
        assert result.blocks_run == tuple(name for name, bits in point.gates.items() if "1" in bits)
        assert result.macs == point.macs
        assert result.latency_ms > 0
        assert result.logits.shape == (1, len(engine.manifest.labels))


@pytest.mark.parametrize("u", [-0.1, 1.1, float("nan"), float("inf")])
def test_a_throttle_out_of_range_is_refused(engine: Engine, x: Array, u: float) -> None:
    with pytest.raises(ThrottleRangeError, match=re.escape(f"throttle u must lie in [0, 1], got {u:g}")):
        engine.run(x, u)


IMAGE = (1, 3, 32, 32)


@pytest.mark.parametrize(
    ("wrong", "got"),
    [
        (np.zeros((1, 3, 32, 31), np.float32), "float32 [1, 3, 32, 31]"),
        (np.zeros((3, 32, 32), np.float32), "float32 [3, 32, 32]"),
        (np.zeros((2, 3, 32, 32), np.float32), "float32 [2, 3, 32, 32]"),
        (np.zeros((1, 32, 32, 3), np.float32), "float32 [1, 32, 32, 3]"),
        (np.zeros(IMAGE, np.float64), "float64 [1, 3, 32, 32]"),
        (np.zeros(IMAGE, np.uint8), "uint8 [1, 3, 32, 32]"),
        (np.zeros(IMAGE, np.float32).tolist(), "list"),
        (None, "NoneType"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_input_that_does_not_fit_is_refused(engine: Engine, wrong: Any, got: str) -> None:
    message = re.escape(
        f"x must be float32 [1, 3, 32, 32], got {got}; tnn_edge.camera.preprocess makes it from an image"
    )
    with pytest.raises(InputError, match=f"^{message}$") as caught:
        engine.run(wrong)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_is_not_finite_is_refused(engine: Engine, x: Array, value: float) -> None:
    broken = x.copy()
    broken[0, 1, 7, 5] = value
    for run in (engine.run, lambda image: engine.run_gates(image, engine.points[-1].gates)):
        with pytest.raises(InputError, match=r"^x holds NaN or infinity, "):
            run(broken)


def test_an_input_of_the_largest_numbers_is_none_of_those(engine: Engine) -> None:
    assert engine.run(np.full(engine.manifest.input.shape, 3e38, np.float32)).logits.shape == (1, 10)


def test_an_input_need_not_lie_in_one_piece(engine: Engine, x: Array) -> None:
    spread = np.empty((1, 3, 32, 64), np.float32)[..., ::2]
    spread[...] = x
    np.testing.assert_array_equal(engine.run(spread, 0.5).logits, engine.run(x, 0.5).logits)


def test_a_result_is_not_changed_by_the_next_run(engine: Engine, x: Array) -> None:
    first = engine.run(x, 0.0)
    kept = first.logits.copy()
    second = engine.run(-x, 1.0)
    np.testing.assert_array_equal(first.logits, kept)
    assert not np.array_equal(second.logits, kept)


def test_writing_into_a_result_changes_no_later_one(engine: Engine, x: Array) -> None:
    wanted = engine.run(x, 0.3).logits.copy()
    engine.run(x, 0.3).logits[:] = 7
    np.testing.assert_array_equal(engine.run(x, 0.3).logits, wanted)


def test_running_leaves_the_input_alone(engine: Engine, x: Array) -> None:
    given_x = x.copy()
    given_x.setflags(write=False)
    engine.run(given_x, 0.4)
    np.testing.assert_array_equal(given_x, x)


def test_a_closed_engine_says_so(own_engine: Engine, x: Array) -> None:
    own_engine.run(x)
    own_engine.close()
    with pytest.raises(RuntimeError, match="the engine is closed"):
        own_engine.run(x)
    own_engine.close()


@pytest.mark.parametrize("look", [lambda e: e.resident, lambda e: e.device_mb, lambda e: e.settle()])
def test_an_engine_may_be_looked_at_while_another_thread_closes_it(
    own_engine: Engine, monkeypatch: pytest.MonkeyPatch, look: Callable[[Engine], object]
) -> None:
    sessions = iter([own_engine._sessions])
    monkeypatch.setattr(Engine, "_sessions", property(lambda _: next(sessions, None)), raising=False)
    look(own_engine)


def test_a_run_that_ends_after_the_engine_was_closed_keeps_no_session(
    own_engine: Engine, x: Array, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert own_engine._sessions is not None
    nearest = own_engine._sessions.nearest

    def found_and_closed(i: int) -> tuple[int, Any]:
        own_engine.close()
        return nearest(i)

    monkeypatch.setattr(own_engine._sessions, "nearest", found_and_closed)
    assert own_engine.run(x, 1.0).point == own_engine.points[-1]
    assert own_engine._lanes == []


def test_leaving_the_context_closes_the_engine(tiny_bundle: Path, x: Array) -> None:
    with tnn_edge.load(str(tiny_bundle), device="cpu") as engine:
        engine.run(x)
    with pytest.raises(RuntimeError, match="the engine is closed"):
        engine.run(x)


def test_settings_change_no_answer(tiny_bundle: Path, engine: Engine, x: Array) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", settings=SessionSettings(threads=2, spinning=True)) as other:
        assert other.settings.threads == 2
        np.testing.assert_allclose(other.run(x, 0.7).logits, engine.run(x, 0.7).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("threads", [0, -1])
def test_no_thread_is_not_enough(threads: int) -> None:
    with pytest.raises(ValueError, match=f"threads must be at least 1, got {threads}"):
        SessionSettings(threads=threads)


def rewrite_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(manifest)
    (bundle / "manifest.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda manifest: manifest["labels"].pop(), "[1, 3, 32, 32] and [1, 9]"),
        (lambda manifest: manifest["input"].update(shape=[1, 3, 16, 16]), "[1, 3, 16, 16] and [1, 10]"),
    ],
)
def test_a_manifest_that_contradicts_the_blocks_is_refused(
    bundle_copy: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    rewrite_manifest(bundle_copy, change)
    blocks = "the blocks read [1, 3, 32, 32] and give [1, 10], the manifest's input and labels say "
    with pytest.raises(BundleError, match=re.escape(blocks + says)):
        tnn_edge.load(bundle_copy, device="cpu")


def test_four_threads_and_two_engines_get_their_own_answers(engine: Engine, own_engine: Engine) -> None:
    inputs, outputs = engine.bundle.golden
    wrong: list[tuple[int, int]] = []
    gate = threading.Barrier(4)

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        gate.wait(timeout=30)
        running = (engine, own_engine)[seed % 2]
        for _ in range(1_000):
            i, k = int(rng.integers(len(engine.points))), int(rng.integers(len(inputs)))
            logits = running.run(inputs[k : k + 1], engine.points[i].u).logits[0]
            if not np.abs(logits - outputs[i, k]).max() <= 1e-4 * np.abs(outputs[i]).max():
                wrong.append((i, k))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert wrong == []


COUNT_OPENED = """
import sys
import numpy as np
import onnxruntime
import tnn_edge

engine = tnn_edge.load(sys.argv[1], device="cpu")
x = engine.bundle.golden[0][:1].copy()
dial = np.random.default_rng(0).random(200)
for point in engine.points[:2]:
    engine.run(x, point.u)

opened, sessions = [], []
sys.addaudithook(lambda event, args: opened.append(args[0]) if event in ("open", "import") else None)
build = onnxruntime.InferenceSession.__init__
onnxruntime.InferenceSession.__init__ = lambda *args, **kwargs: (sessions.append(args), build(*args, **kwargs))[1]
{work}
print(len(opened), len(sessions))
"""
SWITCHES = """
for u in dial:
    engine.run(x, float(u))
"""
ANOTHER_LOAD = """
tnn_edge.load(sys.argv[1], device="cpu", settings=tnn_edge.SessionSettings(threads=2))
"""
THE_SAME_LOAD = """
other = tnn_edge.load(sys.argv[1], device="cpu")
"""


def count_opened(bundle: Path, work: str) -> tuple[int, int]:
    """Files opened or imported, and sessions built, by code in a process of its own."""
    command = [sys.executable, "-c", COUNT_OPENED.format(work=work), str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    opened, sessions = done.stdout.split()
    return int(opened), int(sessions)


def test_a_change_of_u_opens_no_file_and_builds_no_session(tiny_bundle: Path) -> None:
    assert count_opened(tiny_bundle, SWITCHES) == (0, 0)


def test_the_count_sees_what_a_load_opens_and_builds(tiny_bundle: Path) -> None:
    opened, sessions = count_opened(tiny_bundle, ANOTHER_LOAD)
    assert opened > 5
    assert sessions == 5


def test_a_second_engine_over_the_same_plans_builds_no_session(tiny_bundle: Path) -> None:
    _, sessions = count_opened(tiny_bundle, THE_SAME_LOAD)
    assert sessions == 0


@pytest.mark.parametrize("n_switches", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_switching_at_random_grows_neither_memory_nor_open_files(own_engine: Engine, x: Array, n_switches: int) -> None:
    process = psutil.Process()
    rng = np.random.default_rng(0)

    def switch(n: int) -> None:
        for u in rng.random(n):
            own_engine.run(x, float(u))

    switch(500)
    files, threads, memory = process.num_fds(), process.num_threads(), process.memory_info().rss
    switch(n_switches)
    assert process.num_fds() == files
    assert process.num_threads() == threads
    assert process.memory_info().rss - memory <= 2**20


@pytest.fixture
def own_cache(engine: Engine, tmp_path: Path) -> Path:
    """A cache in which the tiny bundle is installed and nothing was measured."""
    shutil.copytree(engine.plans.folder, tmp_path / "cache" / "plans" / engine.plans.folder.name)
    return tmp_path / "cache"


def test_limits_choose_by_the_kept_profile(tiny_bundle: Path, own_cache: Path, x: Array) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", cache=own_cache) as engine:
        key = ProfileKey.of(engine.bundle, engine.plans, "cpu", engine.settings)
        costs = [cost(point.u, float(i + 1)) for i, point in enumerate(engine.points)]
        keep_profile(profile(costs).model_copy(update={"key": key}), engine.plans)
        result = engine.run(x, max_ms=3.5)
        best = max(engine.points[:3], key=lambda point: point.accuracy or 0.0)
        assert (result.point, result.u) == (best, best.u)
        with pytest.raises(LimitError, match=r"the nearest is u=0 with 1.000 ms \(p95\)"):
            engine.run(x, max_ms=0.5)


def test_a_limit_of_which_nothing_is_known_names_the_command(tiny_bundle: Path, own_cache: Path, x: Array) -> None:
    with (
        tnn_edge.load(tiny_bundle, device="cpu", cache=own_cache) as unmeasured,
        pytest.raises(LimitError, match="'tnn-edge profile B' measures it"),
    ):
        unmeasured.run(x, max_ms=1.0)


def test_a_throttle_and_limits_together_are_refused(engine: Engine, x: Array) -> None:
    with pytest.raises(InputError, match=r"^give u, or limits that choose it, not both$"):
        engine.run(x, 0.5, max_ms=1.0)


def test_the_gates_of_a_point_give_its_outputs(engine: Engine, x: Array) -> None:
    for i, point in enumerate(engine.points):
        result = engine.run_gates(x, point.gates)
        golden = engine.bundle.golden[1][i, :1]
        assert np.abs(result.logits - golden).max() <= 1e-4 * np.abs(golden).max()
        assert result.utilisation == pytest.approx(point.utilisation)
        assert result.gates == point.gates


def test_a_gate_vector_that_is_asked_for_often_gets_a_plan(tiny_bundle: Path, own_cache: Path, x: Array) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", cache=own_cache) as own:
        gates = {name: "1" * len(bits) for name, bits in own.points[0].gates.items()}
        stepwise = own.run_gates(x, gates)
        for _ in range(8):
            own.run_gates(x, gates)
        own.settle()
        planned = own.run_gates(x, gates)
    assert (stepwise.is_stepwise, planned.is_stepwise) == (True, False)
    np.testing.assert_allclose(planned.logits, stepwise.logits, rtol=0, atol=1e-4 * np.abs(stepwise.logits).max())


class Fails:
    """A session whose device is lost."""

    def run_with_iobinding(self, _: object) -> None:
        raise Exception("CUDA failure 999\nand where")  # ONNX Runtime's errors share no other base


def test_a_run_that_fails_is_a_plan_error(own_engine: Engine, x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    (lane,) = own_engine._lanes
    monkeypatch.setitem(lane._bound, 0, (Fails(), lane._bound[0][1]))
    with pytest.raises(PlanError, match=r"^ONNX Runtime cannot run the plan: CUDA failure 999$"):
        own_engine.run(x, 0.0)
    assert own_engine.run(x, 1.0).point == own_engine.points[-1]
