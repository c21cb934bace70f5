"""Time that moves only when a test says so, for a thread that waits on it."""

from __future__ import annotations

import threading

_PATIENCE_S = 10.0


class SteppedTime:
    """A clock, and what a sampling thread waits on.

    `advance` stops at each moment at which the thread wants to wake, lets it run until it waits again, and goes on:
    readings fall on exact times, however busy the machine is.
    """

    def __init__(self) -> None:
        self.now_s = 0.0
        self._moved = threading.Condition()
        self._stop: SteppedStop | None = None

    def clock(self) -> float:
        return self.now_s

    def new_stop(self) -> SteppedStop:
        self._stop = SteppedStop(self._moved, self)
        return self._stop

    def advance(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        with self._moved:
            while (due_s := self._next_due_s()) is not None and due_s <= end_s:
                self.now_s = due_s
                assert self._stop is not None
                self._stop.due_s = None
                self._moved.notify_all()
            self.now_s = end_s

    def _next_due_s(self) -> float | None:
        """When the thread wants to wake, once it waits; None without one."""
        stop = self._stop
        if stop is None or stop.is_set:
            return None
        assert self._moved.wait_for(lambda: stop.due_s is not None, _PATIENCE_S), "the thread does not wait"
        return stop.due_s


class SteppedStop:
    """Like `threading.Event`, in stepped time."""

    def __init__(self, moved: threading.Condition, time: SteppedTime) -> None:
        self.is_set = False
        self.due_s: float | None = None
        self._moved = moved
        self._time = time

    def set(self) -> None:
        with self._moved:
            self.is_set = True
            self._moved.notify_all()

    def wait(self, timeout: float) -> bool:
        with self._moved:
            self.due_s = self._time.now_s + timeout
            self._moved.notify_all()
            assert self._moved.wait_for(lambda: self.is_set or self.due_s is None, _PATIENCE_S), "time stands still"
            return self.is_set
