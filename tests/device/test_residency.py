"""A budget of memory: what fits, who leaves, and what an engine answers meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tnn_edge
from tnn_edge import Engine
from tnn_edge.runtime.lane import open_lane
from tnn_edge.runtime.residency import Residency
from tnn_edge.runtime.stored_tensor import PAGE_BYTES, StoredTensor, pages

MB = 2**20
SESSION = MB  # what a session counts besides its weights


class Clock:
    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def weights(*extents: tuple[int, int]) -> list[StoredTensor]:
    """Tensors by offset and size in MB."""
    return [StoredTensor(f"w{i}", "uint8", (n * MB,), offset * MB) for i, (offset, n) in enumerate(extents)]


NESTED = [weights((0, 1)), weights((0, 2)), weights((0, 4)), weights((8, 4))]


def test_shared_weights_count_once() -> None:
    residency = Residency(100 * MB, NESTED)
    assert residency.n_bytes([0]) == 1 * MB + SESSION
    assert residency.n_bytes([0, 1, 2]) == 4 * MB + 3 * SESSION
    assert residency.n_bytes([2, 3]) == 8 * MB + 2 * SESSION


@given(st.lists(st.tuples(st.integers(0, 5 * PAGE_BYTES), st.integers(1, 3 * PAGE_BYTES)), max_size=5))
def test_pages_are_those_that_a_byte_lies_on(extents: list[tuple[int, int]]) -> None:
    tensors = [StoredTensor("w", "uint8", (n,), offset) for offset, n in extents]
    assert pages(tensors) == {byte // PAGE_BYTES for offset, n in extents for byte in range(offset, offset + n)}


def test_what_fits_comes_without_anybody_leaving() -> None:
    assert Residency(7 * MB, NESTED).leaving(2, [0, 1]) == []


def test_the_one_that_was_not_asked_for_the_longest_leaves_and_never_the_lowest() -> None:
    clock = Clock()
    residency = Residency(9 * MB, NESTED, clock_s=clock)
    for i in (0, 1, 2):
        clock.now_s += 1
        residency.ask(i)
    clock.now_s += 1
    residency.ask(1)
    assert residency.leaving(3, [0, 1, 2]) == [2]


def test_several_leave_where_one_is_not_enough() -> None:
    residency = Residency(7 * MB, NESTED)
    assert residency.leaving(3, [0, 1, 2]) == [1, 2]


def test_what_never_fits_is_refused() -> None:
    assert Residency(6 * MB, NESTED).leaving(3, [0, 1]) is None


def test_nobody_leaves_within_a_minute_of_the_last_and_the_refused_is_not_tried_again_sooner() -> None:
    clock = Clock()
    residency = Residency(7 * MB, NESTED, clock_s=clock)
    assert residency.ask(3)
    assert residency.leaving(3, [0, 2]) == [2]
    clock.now_s += 30
    assert residency.ask(2)
    assert residency.leaving(2, [0, 3]) is None
    clock.now_s += 59
    assert not residency.ask(2)
    clock.now_s += 1
    assert residency.ask(2)
    assert residency.leaving(2, [0, 3]) == [3]


@given(st.integers(1, 30), st.lists(st.integers(0, 3), max_size=20))
def test_what_is_resident_never_exceeds_the_budget_but_for_the_lowest_alone(mb: int, asked: Sequence[int]) -> None:
    clock = Clock()
    residency = Residency(mb * MB, NESTED, clock_s=clock)
    resident = {0}
    for i in asked:
        clock.now_s += 100
        if residency.ask(i) and i not in resident and (leaving := residency.leaving(i, resident)) is not None:
            resident = resident - set(leaving) | {i}
        assert 0 in resident
        assert len(resident) == 1 or residency.n_bytes(resident) <= mb * MB


@contextmanager
def loading_held(engine: Engine) -> Iterator[None]:
    """Nothing that is asked for meanwhile is there before the end."""
    assert engine._sessions is not None and engine._sessions._loader is not None
    go = threading.Event()
    engine._sessions._loader.submit(go.wait)
    yield
    go.set()


def test_an_engine_with_a_budget_answers_by_the_nearest_lower_point_until_the_asked_one_is_there(
    tiny_bundle: Path, engine: Engine
) -> None:
    x = engine.bundle.golden[0][:1]
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=64) as own:
        assert own.resident == own.points[:1]
        with loading_held(own):
            first = own.run(x, 0.5)
        assert (first.point, first.asked) == (own.points[0], own.points[2])
        np.testing.assert_array_equal(first.logits, engine.run(x, 0.0).logits)
        own.settle()
        assert own.resident == (own.points[0], own.points[2])
        second = own.run(x, 0.5)
        assert second.point == second.asked == own.points[2]
        np.testing.assert_array_equal(second.logits, engine.run(x, 0.5).logits)
        with loading_held(own):
            assert own.run(x, 1.0).point == own.points[2]


def test_an_engine_whose_budget_holds_one_point_keeps_answering(tiny_bundle: Path, engine: Engine) -> None:
    x = engine.bundle.golden[0][:1]
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=0.5) as own:
        for u in (1.0, 0.4, 1.0):
            assert own.run(x, u).point == own.points[0]
            own.settle()
        assert own.resident == own.points[:1]


def test_a_point_that_left_is_bound_nowhere_and_comes_back(tiny_bundle: Path, engine: Engine) -> None:
    x = engine.bundle.golden[0][:1]
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=2.2) as own:
        own.run(x, 1.0)
        own.settle()
        assert own.resident == (own.points[0], own.points[4])
        own.run(x, 0.4)
        own.settle()
        assert own.resident == (own.points[0], own.points[2])
        with loading_held(own):
            assert own.run(x, 1.0).point == own.points[2]
        assert {i for lane in own._lanes for i in lane._bound} == {0, 2}


def test_a_point_that_leaves_while_its_run_begins_is_not_kept(
    tiny_bundle: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = engine.bundle.golden[0][:1]
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=2.2) as own:
        own.run(x, 1.0)
        own.settle()
        sessions = own._sessions
        assert sessions is not None
        nearest = sessions.nearest

        def found_and_left(i: int) -> tuple[int, Any]:
            found = nearest(i)
            nearest(2)
            sessions.settle()
            return found

        with monkeypatch.context() as patch:
            patch.setattr(sessions, "nearest", found_and_left)
            assert own.run(x, 1.0).point == own.points[4]
        assert own.resident == (own.points[0], own.points[2])
        own.run(x, 0.4)
        assert {i for lane in own._lanes for i in lane._bound} == {0, 2}


def test_to_serve_another_thread_asks_for_no_point(tiny_bundle: Path, engine: Engine) -> None:
    x = engine.bundle.golden[0][:1]
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=3.2) as own:
        for u in (0.2, 0.4, 0.2):
            own.run(x, u)
            own.settle()
        assert own.resident == own.points[:3]
        assert own._sessions is not None
        open_lane(own._sessions, x.shape, len(own.manifest.labels))
        own.run(x, 0.8)
        own.settle()
        assert own.resident == (own.points[0], own.points[1], own.points[4])


@pytest.mark.parametrize("budget", [0.0, -1.0, float("nan"), float("inf")])
def test_a_budget_of_nothing_is_refused(tiny_bundle: Path, budget: float) -> None:
    with pytest.raises(ValueError, match="max_resident_mb must be a finite number above 0 or None, got"):
        tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=budget)
