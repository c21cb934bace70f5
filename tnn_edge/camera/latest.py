"""The newest frame of a live source: a thread captures at the source's pace, whoever computes sees the present."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

from tnn_edge.camera.frame import Frame, FrameSource
from tnn_edge.camera.frame_mailbox import Closed, Mailbox, MailboxCounts
from tnn_edge.errors import SourceError

__all__ = ["LatestFrames"]

_POLL_S = 0.1
"""How often a wait looks whether it should end. Nothing is late for it: a frame wakes the wait at once."""

_JOIN_S = 2.0
"""How long closing waits for a capture that hangs in its driver."""


class LatestFrames(FrameSource):
    """The frames of a live source, each the newest at the moment it is asked for. Owns the source.

    Frames that nobody asked for in time are dropped and counted. A source that fails is heard after its last frame.

    Args:
        source: opened; iterated in a thread of its own.
        stall_s: seconds without a frame after which the source is given up.
        should_stop: asked while waiting; iteration ends when it says so.
        on_wait: told the seconds without a frame, about ten times a second while there is none.
        clock: seconds, monotonic.
    """

    n_frames = None
    is_live = True

    def __init__(
        self,
        source: FrameSource,
        *,
        stall_s: float = 10.0,
        should_stop: Callable[[], bool] = lambda: False,
        on_wait: Callable[[float], None] = lambda _seconds: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not stall_s > 0.0:
            raise ValueError(f"stall_s must be above 0, got {stall_s:g}")
        self.description = source.description
        self._source = source
        self._stall_s = stall_s
        self._should_stop = should_stop
        self._on_wait = on_wait
        self._clock = clock
        self._mailbox = Mailbox()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._capture, name=f"capture of {source.description}", daemon=True)

    @property
    def n_dropped(self) -> int:
        return self._mailbox.counts.dropped

    @property
    def counts(self) -> MailboxCounts:
        """Frames captured (`put`), given out and dropped, so far."""
        return self._mailbox.counts

    def __iter__(self) -> Iterator[Frame]:
        self._thread.start()
        last_frame_s = self._clock()
        while not self._should_stop():
            try:
                frame = self._mailbox.take(_POLL_S)
            except Closed:
                if self._failure is not None:
                    raise self._failure from None
                return
            if frame is not None:
                yield frame
                last_frame_s = self._clock()  # time in the consumer is no stall
                continue
            waited_s = self._clock() - last_frame_s
            self._on_wait(waited_s)
            if waited_s >= self._stall_s:
                waited = f"has delivered no frame for {waited_s:.0f} s"
                raise SourceError(f"{self.description} {waited}; check its cable, power and network")

    def stop(self) -> None:
        self._mailbox.close()

    def close(self) -> None:
        """End the capture and release the source.

        A capture that hangs in its driver cannot be interrupted, and releasing a device under it would crash: then the
        source stays with its thread, which ends with the process.
        """
        self.stop()
        if self._thread.is_alive():
            self._thread.join(_JOIN_S)
        if not self._thread.is_alive():
            self._source.close()

    def _capture(self) -> None:
        try:
            for frame in self._source:
                if not self._mailbox.put(frame):
                    return
        except Exception as err:  # noqa: BLE001 -- whatever it is, the consumer raises it
            self._failure = err
        finally:
            self._mailbox.end()
