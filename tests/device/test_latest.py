"""The newest frame of a live source: fresh, counted, and never a hang."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tnn_edge.camera import Frame, FrameSource, LatestFrames
from tnn_edge.camera.frame_mailbox import Closed, Mailbox
from tnn_edge.errors import SourceError

PATIENCE_S = 30.0
"""Longest wait for another thread before a test gives up; reached only where something hangs."""


def frame(index: int) -> Frame:
    return Frame(index=index, name="f", captured_at=0.0, image=np.zeros((1, 1, 3), np.uint8))


class Steps(FrameSource):
    """A live source that delivers when told to, and may then die or hang."""

    n_frames = None
    is_live = True
    description = "steps"

    def __init__(self, *, ending: Callable[[], None] = lambda: None) -> None:
        self._ending = ending
        self._wanted = threading.Semaphore(0)
        self._delivered = threading.Semaphore(0)
        self._is_over = False
        self.n_given = 0
        self.is_closed = False

    def __iter__(self) -> Iterator[Frame]:
        while True:
            self._wanted.acquire()
            if self._is_over:
                self._ending()
                return
            self.n_given += 1
            yield frame(self.n_given - 1)
            self._delivered.release()

    def deliver(self, n: int) -> None:
        """Let n frames go, and wait until the consumer's side holds them."""
        for _ in range(n):
            self._wanted.release()
            assert self._delivered.acquire(timeout=PATIENCE_S)

    def finish(self) -> None:
        self._is_over = True
        self._wanted.release()

    def deliver_and_finish(self) -> None:
        self.deliver(1)
        self.finish()

    def close(self) -> None:
        self.is_closed = True


def test_who_is_slow_gets_the_newest_frame_and_the_others_are_counted() -> None:
    source = Steps()
    with LatestFrames(source) as latest:
        frames = iter(latest)
        started = threading.Thread(target=source.deliver, args=(1,))
        started.start()
        assert next(frames).index == 0
        started.join()
        source.deliver(7)  # while the consumer computes
        assert next(frames).index == 7
        source.deliver(2)
        assert next(frames).index == 9
        source.deliver(3)
        source.finish()
    counts = latest.counts
    assert (counts.put, counts.taken, counts.dropped) == (source.n_given, 3, 10)
    assert counts.put == counts.taken + counts.dropped
    assert source.is_closed


def test_source_that_ends_gives_its_last_frame_first() -> None:
    source = Steps()
    with LatestFrames(source) as latest:
        frames = iter(latest)
        threading.Thread(target=source.deliver_and_finish).start()
        assert [f.index for f in frames] == [0]


def test_source_that_dies_is_heard_after_its_last_frame() -> None:
    def die() -> None:
        raise SourceError("the cable is out")

    source = Steps(ending=die)
    with LatestFrames(source) as latest:
        frames = iter(latest)
        threading.Thread(target=source.deliver_and_finish).start()
        assert next(frames).index == 0
        with pytest.raises(SourceError, match="the cable is out"):
            next(frames)
    assert latest.counts.put == latest.counts.taken == 1


def test_source_that_stalls_is_given_up_with_the_time_it_was_waited_for() -> None:
    source = Steps()
    now = iter(range(0, 1000, 4))  # every look at the clock is 4 s later
    waits: list[float] = []
    with LatestFrames(source, stall_s=10.0, on_wait=waits.append, clock=lambda: float(next(now))) as latest:
        with pytest.raises(SourceError, match=r"steps has delivered no frame for 12 s; check its cable"):
            next(iter(latest))
        source.finish()
    assert waits == [4.0, 8.0, 12.0]


def test_time_in_the_consumer_is_no_stall() -> None:
    source = Steps()
    clock = {"s": 0.0}
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:  # the second frame comes only after a look at the clock
            threading.Thread(target=source.deliver, args=(1,)).start()

    threading.Thread(target=source.deliver, args=(1,)).start()
    with LatestFrames(source, stall_s=10.0, on_wait=wait, clock=lambda: clock["s"]) as latest:
        frames = iter(latest)
        next(frames)
        waits.clear()
        clock["s"] = 1000.0  # a very slow network
        assert next(frames).index == 1
        source.finish()
    assert set(waits) == {0.0}


def test_waiting_ends_when_it_should_stop() -> None:
    source = Steps()
    with LatestFrames(source, should_stop=lambda: True) as latest:
        assert list(latest) == []
        source.finish()


def test_source_that_hangs_in_its_driver_is_not_released_under_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tnn_edge.camera.latest._JOIN_S", 0.01)
    source = Steps()
    with LatestFrames(source, should_stop=lambda: True) as latest:
        list(latest)
    assert not source.is_closed
    source.finish()


@pytest.mark.parametrize("stall_s", [0.0, -1.0, float("nan")])
def test_stall_must_be_a_time(stall_s: float) -> None:
    with pytest.raises(ValueError, match=r"stall_s must be above 0, got"):
        LatestFrames(Steps(), stall_s=stall_s)


@given(st.lists(st.sampled_from(["put", "take", "end", "close"])))
def test_mailbox_accounts_for_every_frame(actions: list[str]) -> None:
    box = Mailbox()
    waiting: int | None = None
    n_put = n_taken = n_dropped = 0
    is_open = True
    for action in actions:
        if action == "put":
            assert box.put(frame(n_put)) is is_open
            if is_open:
                n_dropped += waiting is not None
                waiting, n_put = n_put, n_put + 1
        elif action == "take" and (waiting is not None or is_open):
            taken = box.take(timeout_s=0.0)
            assert (None if taken is None else taken.index) == waiting
            n_taken += waiting is not None
            waiting = None
        elif action == "take":
            with pytest.raises(Closed):
                box.take(timeout_s=0.0)
        else:
            if action == "close" and waiting is not None:
                n_dropped, waiting = n_dropped + 1, None
            (box.close if action == "close" else box.end)()
            is_open = False
        counts = box.counts
        assert (counts.put, counts.taken, counts.dropped) == (n_put, n_taken, n_dropped)
        assert counts.put == counts.taken + counts.dropped + (waiting is not None)


def test_frame_wakes_a_wait_at_once() -> None:
    box = Mailbox()
    putting = threading.Timer(0.0, box.put, [frame(5)])
    putting.start()
    taken = box.take(timeout_s=PATIENCE_S)
    assert taken is not None and taken.index == 5
