"""Timing: what is measured on a known clock, and what may not disturb it."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

import tnn_edge
from tests.device.profiles import PacedClock
from tnn_edge.camera import ImageFolder, sweep_throttle
from tnn_edge.errors import InputError
from tnn_edge.runtime import Engine
from tnn_edge.runtime.measuring.benchmark import benchmark
from tnn_edge.runtime.measuring.profiler import measure_profile
from tnn_edge.runtime.measuring.timing import bring_in, check_resident, conditions, no_collection, timed_ms

REPOSITORY = Path(__file__).resolve().parents[2]

NOT_IN_MEMORY = (
    r"^the operating point from u=0\.2000 is not in memory, and a lower one would be timed in its place; raise "
    r"max_resident_mb, or leave the point out$"
)


def test_a_call_takes_what_passes_on_the_clock() -> None:
    clock = PacedClock()
    assert timed_ms(lambda: clock.sleep(0.0125), clock) == 12.5


@pytest.mark.parametrize("is_enabled", [True, False])
def test_garbage_is_collected_before_and_not_meanwhile_and_then_as_it_was(is_enabled: bool) -> None:
    class Ring:
        def __init__(self) -> None:
            self.own = self

        def __del__(self) -> None:
            died.append(gc.isenabled())

    died: list[bool] = []
    Ring()
    try:
        (gc.enable if is_enabled else gc.disable)()
        with no_collection():
            assert len(died) == 1
            assert not gc.isenabled()
        assert gc.isenabled() is is_enabled
        with pytest.raises(KeyError), no_collection():
            raise KeyError
        assert gc.isenabled() is is_enabled
    finally:
        gc.enable()


def test_points_come_into_memory_as_far_as_there_is_room(tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=64) as roomy:
        assert roomy.resident == roomy.points[:1]
        bring_in(roomy, roomy.points[2:])
        assert roomy.resident == (roomy.points[0], *roomy.points[2:])
        check_resident(roomy, roomy.points[2:])
        with pytest.raises(InputError, match=NOT_IN_MEMORY):
            check_resident(roomy, roomy.points)


def test_nothing_is_timed_in_the_place_of_a_point_that_is_not_in_memory(tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=0.5) as small:
        with pytest.raises(InputError, match=NOT_IN_MEMORY):
            benchmark(small, rounds=1)
        with pytest.raises(InputError, match=NOT_IN_MEMORY):
            measure_profile(small, rounds=20, seconds=0.01, idle_seconds=0.01)
        with pytest.raises(InputError, match=NOT_IN_MEMORY):
            sweep_throttle(small, ImageFolder(REPOSITORY / "examples" / "demo" / "images"), limit=1)


def test_points_that_are_loaded_for_it_are_timed_themselves(tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=64) as roomy:
        points = benchmark(roomy, dial=[0.0, 1.0], rounds=30).points
        assert [point.macs for point in points] == [roomy.points[0].macs, roomy.points[-1].macs]
        assert points[0].latency_p50_ms < points[1].latency_p50_ms


def test_figures_tell_what_they_hang_on(engine: Engine) -> None:
    told = conditions(engine)
    assert (told["threads"], told["device"], told["precision"]) == (1, "cpu", "float32")
    assert {"cpu", "cores", "features", "os", "python", "onnxruntime"} <= set(told)
