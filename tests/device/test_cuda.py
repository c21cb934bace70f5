"""Engines on CUDA: what decides for it, what an install and a switch do there, and what happens when it fails."""

from __future__ import annotations

import gc
import logging
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

import tnn_edge
from tests.device.host_cuda import HostDriver, put_in
from tnn_edge import Engine, SessionSettings
from tnn_edge.errors import PlanError, ProviderError
from tnn_edge.runtime import device_choice, providers
from tnn_edge.runtime.cuda import session as cuda_session
from tnn_edge.runtime.cuda.device_weights import DeviceWeights
from tnn_edge.runtime.cuda.driver import cuda_driver
from tnn_edge.runtime.measuring.timing import conditions
from tnn_edge.runtime.providers import cuda_options
from tnn_edge.runtime.verify import verify

Array = npt.NDArray[np.float32]

# The CPU's provider stands for CUDA's too, and ONNX Runtime is given both.
pytestmark = pytest.mark.filterwarnings("ignore:Duplicate provider:UserWarning")

OFFERED = ["CUDAExecutionProvider", "CPUExecutionProvider"]
KNOWN_TO_ONNXRUNTIME_1_20 = {
    "arena_extend_strategy",
    "cudnn_conv_algo_search",
    "device_id",
    "enable_cuda_graph",
    "use_tf32",
    "user_compute_stream",
}
LOST = "cuMemcpyHtoDAsync_v2: CUDA_ERROR_UNKNOWN (999)"


def why_no_cuda() -> str | None:
    """Why there is no real CUDA here."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        return "this ONNX Runtime is made without CUDA"
    return device_choice.unavailable_cuda()


WHY_NO_CUDA = why_no_cuda()
needs_cuda = pytest.mark.skipif(WHY_NO_CUDA is not None, reason=f"no CUDA: {WHY_NO_CUDA}")


@pytest.fixture(scope="module")
def x(engine: Engine) -> Array:
    return engine.bundle.golden[0][:1].copy()


@pytest.fixture(scope="module")
def driver() -> Iterator[HostDriver]:
    """CUDA stands for the whole file, so that plans are built once."""
    with pytest.MonkeyPatch.context() as patch:
        put_in(patch, driver := HostDriver())
        yield driver


@pytest.fixture
def cuda_engine(driver: HostDriver, tiny_bundle: Path) -> Iterator[Engine]:
    with tnn_edge.load(tiny_bundle, device="cuda") as loaded:
        yield loaded
    driver.failure = None


def assert_random_switches_give_the_answers_of_the_cpu(cuda: Engine, cpu: Engine, tolerance: float) -> None:
    inputs = cpu.bundle.golden[0]
    rng = np.random.default_rng(0)
    for _ in range(200):
        image, point = inputs[rng.integers(len(inputs))][None], cpu.points[rng.integers(len(cpu.points))]
        expected = cpu.run_point(image, point).logits
        got = cuda.run_point(image, point)
        assert got.point == point
        np.testing.assert_allclose(got.logits, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_options_are_those_that_every_supported_onnxruntime_knows() -> None:
    plain, tuned = cuda_options(SessionSettings()), cuda_options(SessionSettings(tf32=True, cuda_graphs=False), 4096)
    assert set(plain) < set(tuned) == KNOWN_TO_ONNXRUNTIME_1_20
    assert (plain["use_tf32"], plain["cudnn_conv_algo_search"]) == ("0", "HEURISTIC")
    assert (tuned["use_tf32"], tuned["user_compute_stream"], tuned["enable_cuda_graph"]) == ("1", "4096", "0")
    assert cuda_options(SessionSettings(), 4096)["enable_cuda_graph"] == "1"


def test_plans_for_cuda_are_those_of_one_gpu(
    cuda_engine: Engine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tnn_edge.runtime.installing.plans import find_plans

    assert (cuda_engine.device, cuda_engine.plans.precision) == ("cuda", "float32")
    assert cuda_engine.plans.folder != engine.plans.folder
    assert find_plans(cuda_engine.bundle, "cuda") == cuda_engine.plans
    put_in(monkeypatch, HostDriver("another GPU"))
    assert find_plans(cuda_engine.bundle, "cuda") is None


def test_switches_on_cuda_are_effective_at_once(cuda_engine: Engine, engine: Engine, driver: HostDriver) -> None:
    before = driver.uploads
    assert_random_switches_give_the_answers_of_the_cpu(cuda_engine, engine, 1e-5)
    assert driver.uploads - before == 200  # one image each, and nothing is warmed up any more
    assert not verify(cuda_engine).faults
    said = conditions(cuda_engine)
    assert (said["processor"], said["tf32"], said["cuda_graphs"]) == ("memory of the CPU", False, True)


def test_every_lane_has_graphs_of_its_own(cuda_engine: Engine, driver: HostDriver, tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cuda") as other:
        assert other._sessions is cuda_engine._sessions
        lanes = [each._lanes[0] for each in (cuda_engine, other)]
        numbers = [lane._options.get_run_config_entry("gpu_graph_id") for lane in lanes]  # type: ignore[attr-defined]
        assert len({*numbers} - {"-1", "0"}) == 2
        waits = [lane._options.get_run_config_entry("disable_synchronize_execution_providers") for lane in lanes]  # type: ignore[attr-defined]
        assert waits == ["1", "1"]


def test_weights_are_on_the_gpu_once(driver: HostDriver, tiny_bundle: Path, engine: Engine) -> None:
    settings = SessionSettings(threads=3)
    before = driver.used_bytes()
    with tnn_edge.load(tiny_bundle, device="cuda", settings=settings) as loaded:
        taken = driver.used_bytes() - before
        assert_random_switches_give_the_answers_of_the_cpu(loaded, engine, 1e-5)
        stored = loaded.plans.weights.stat().st_size
    if DeviceWeights.are_possible():  # two arrays of a lane beside them, on both sides
        assert taken == stored + 2 * 4 * (engine.bundle.golden[0][0].size + len(engine.manifest.labels))
        assert stored < loaded.plans.offered_bytes


def test_within_a_budget_each_point_loads_its_own_weights(
    driver: HostDriver, tiny_bundle: Path, engine: Engine
) -> None:
    with tnn_edge.load(tiny_bundle, device="cuda", max_resident_mb=64) as loaded:
        for point in loaded.points:
            loaded.run_point(engine.bundle.golden[0][:1], point)
            loaded.settle()
        assert loaded.resident == loaded.points
        assert_random_switches_give_the_answers_of_the_cpu(loaded, engine, 1e-5)


def test_threads_on_cuda_get_their_own_answers(cuda_engine: Engine, engine: Engine) -> None:
    inputs = engine.bundle.golden[0]

    def wrong(seed: int) -> int:
        rng = np.random.default_rng(seed)
        count = 0
        for _ in range(100):
            image, u = inputs[rng.integers(len(inputs))][None], float(rng.uniform())
            expected = engine.run(image, u).logits
            count += not np.allclose(
                cuda_engine.run(image, u).logits, expected, rtol=0, atol=1e-5 * np.abs(expected).max()
            )
        return count

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(wrong, range(4))) == [0] * 4


def test_a_closed_engine_leaves_no_memory_on_the_gpu(driver: HostDriver, tiny_bundle: Path) -> None:
    gc.collect()
    before = dict(driver.allocated)
    with tnn_edge.load(tiny_bundle, device="cuda") as loaded:
        assert len(driver.allocated) > len(before)
        assert loaded.device_mb is not None
    gc.collect()
    assert driver.allocated == before


def test_a_graph_that_cannot_be_recorded_runs_kernel_by_kernel(
    driver: HostDriver, engine: Engine, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    real = providers.open_session

    def choosy(plan: Path, options: Any, device: Any, cuda: dict[str, str]) -> Any:
        tried.append(cuda["enable_cuda_graph"])
        if cuda["enable_cuda_graph"] == "1":
            raise PlanError("This session cannot use the graph capture feature")
        return real(plan, options, device, cuda)

    monkeypatch.setattr(cuda_session, "open_session", choosy)
    settings = SessionSettings(threads=2)  # other sessions than those that are open
    with tnn_edge.load(tiny_bundle, device="cuda", settings=settings) as loaded:
        assert tried == ["1", "0"] * len(engine.points)
        assert_random_switches_give_the_answers_of_the_cpu(loaded, engine, 1e-5)


def test_auto_goes_to_the_cpu_where_cuda_does_not_start(
    tiny_bundle: Path, x: Array, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: OFFERED)
    monkeypatch.setitem(providers.PROVIDERS, "cuda", OFFERED[0])
    monkeypatch.setattr(device_choice, "_cuda_fault", lambda: "there is no NVIDIA driver here")
    with caplog.at_level(logging.WARNING), tnn_edge.load(tiny_bundle, device="auto") as loaded:
        assert loaded.device == "cpu"
        assert loaded.run(x, 0.5).fallback == "there is no NVIDIA driver here"
    assert caplog.messages == ["there is no NVIDIA driver here: running on the CPU instead"]
    with pytest.raises(
        ProviderError, match=r"^CUDA does not work here: there is no NVIDIA driver here; tnn-edge doctor"
    ):
        tnn_edge.load(tiny_bundle, device="cuda")


def test_auto_without_a_cuda_to_take_says_nothing(tiny_bundle: Path, x: Array, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: OFFERED[1:])
    monkeypatch.setitem(providers.PROVIDERS, "cuda", OFFERED[0])
    with tnn_edge.load(tiny_bundle, device="auto") as loaded:
        assert (loaded.device, loaded.run(x, 0.5).fallback, loaded.device_mb) == ("cpu", None, None)


@pytest.mark.skipif(WHY_NO_CUDA is None, reason="CUDA is here")
def test_a_machine_without_a_driver_says_so() -> None:
    with pytest.raises(ProviderError, match=r"^there is no NVIDIA driver here \(.*libcuda|^cu\w+: CUDA_ERROR_"):
        cuda_driver()


def test_auto_goes_to_the_cpu_where_sessions_do_not_open(
    driver: HostDriver, tiny_bundle: Path, x: Array, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> Any:
        raise PlanError("ONNX Runtime cannot load it: out of memory")

    monkeypatch.setattr("tnn_edge.runtime.plan_sessions.open_cuda_session", refuse)
    settings = SessionSettings(threads=2)
    with caplog.at_level(logging.WARNING), tnn_edge.load(tiny_bundle, device="auto", settings=settings) as loaded:
        assert (loaded.device, loaded.run(x).fallback) == ("cpu", "ONNX Runtime cannot load it: out of memory")
    assert caplog.messages == ["ONNX Runtime cannot load it: out of memory: running on the CPU instead"]
    with pytest.raises(PlanError, match="out of memory"):
        tnn_edge.load(tiny_bundle, device="cuda", settings=settings)


def test_cuda_that_fails_at_run_time_is_one_error_and_then_the_cpu(
    driver: HostDriver, tiny_bundle: Path, engine: Engine, x: Array, caplog: pytest.LogCaptureFixture
) -> None:
    with tnn_edge.load(tiny_bundle, device="auto") as loaded:
        assert loaded.run(x, 0.5).fallback is None
        driver.failure = LOST
        message = re.escape(f"CUDA failed at run time: {LOST}; the engine goes on on the CPU")
        with caplog.at_level(logging.WARNING), pytest.raises(ProviderError, match=f"^{message}$"):
            loaded.run(x, 0.5)
        after = loaded.run(x, 0.5)
        driver.failure = None
        assert (loaded.device, after.fallback) == ("cpu", f"CUDA failed at run time: {LOST}")
        np.testing.assert_array_equal(after.logits, engine.run(x, 0.5).logits)
        assert loaded.plans == engine.plans
    assert caplog.messages == [f"CUDA failed at run time: {LOST}: going on on the CPU"]


def test_cuda_that_was_asked_for_stays_an_error(cuda_engine: Engine, driver: HostDriver, x: Array) -> None:
    driver.failure = LOST
    message = re.escape(f"CUDA failed at run time: {LOST}; device='cpu' (--device cpu) does without it")
    for _ in range(2):
        with pytest.raises(ProviderError, match=f"^{message}$"):
            cuda_engine.run(x)
    driver.failure = None
    assert cuda_engine.run(x).fallback is None  # a fault that passes


@pytest.mark.gpu
@needs_cuda
def test_a_gpu_gives_the_golden_outputs_and_switches_at_once(tiny_bundle: Path, engine: Engine) -> None:
    with tnn_edge.load(tiny_bundle, device="cuda") as loaded:
        assert not verify(loaded).faults
        assert loaded.device_mb is not None and loaded.device_mb > 0
        assert_random_switches_give_the_answers_of_the_cpu(loaded, engine, 1e-4)
        gates = {name: "1" * len(bits) for name, bits in loaded.points[0].gates.items()}
        image = loaded.bundle.golden[0][:1]
        full = engine.run(image, 1.0).logits
        np.testing.assert_allclose(loaded.run_gates(image, gates).logits, full, rtol=0, atol=1e-4 * np.abs(full).max())


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("settings", [SessionSettings(cuda_graphs=False), SessionSettings(tf32=True)], ids=str)
def test_a_gpu_without_graphs_or_with_rounded_factors(
    tiny_bundle: Path, engine: Engine, settings: SessionSettings
) -> None:
    with tnn_edge.load(tiny_bundle, device="cuda", settings=settings) as loaded:
        assert_random_switches_give_the_answers_of_the_cpu(loaded, engine, 1e-2 if settings.tf32 else 1e-4)


@pytest.mark.gpu
@needs_cuda
def test_threads_share_a_gpu(tiny_bundle: Path, engine: Engine) -> None:
    with tnn_edge.load(tiny_bundle, device="cuda") as loaded:
        test_threads_on_cuda_get_their_own_answers(loaded, engine)
