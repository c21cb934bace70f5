"""One slot between a thread that captures and one that computes: the newest frame waits, older ones are dropped."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from tnn_edge.camera.frame import Frame

__all__ = ["Closed", "Mailbox", "MailboxCounts"]


class Closed(Exception):  # noqa: N818 -- no error, the end of the frames
    """No frame will come any more."""


@dataclass(frozen=True)
class MailboxCounts:
    """Attributes: put: frames that came in; taken: frames that went out; dropped: frames that nobody took."""

    put: int
    taken: int
    dropped: int


class Mailbox:
    """The newest frame, for one reader.

    A queue of one frame would keep the old frame and lose the new one, or hold the capture up; this slot always holds
    what was captured last. Counts change together with the slot under one lock: whenever the slot is empty, and always
    after `close`, put = taken + dropped.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._put = self._taken = self._dropped = 0
        self._is_ending = False

    @property
    def counts(self) -> MailboxCounts:
        """All counts at one moment."""
        with self._changed:
            return MailboxCounts(self._put, self._taken, self._dropped)

    def put(self, frame: Frame) -> bool:
        """Leave a frame, in place of one that still waits.

        Returns:
            False once the mailbox is closed: the frame was not taken in and counts nowhere.
        """
        with self._changed:
            if self._is_ending:
                return False
            self._put += 1
            self._dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()
            return True

    def take(self, timeout_s: float) -> Frame | None:
        """The waiting frame, or the next one; None where none comes in time.

        Raises:
            Closed: none waits and none will come.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._is_ending, timeout_s)
            frame, self._frame = self._frame, None
            if frame is not None:
                self._taken += 1
            elif self._is_ending:
                raise Closed
            return frame

    def end(self) -> None:
        """No more frames; one that waits may still be taken."""
        with self._changed:
            self._is_ending = True
            self._changed.notify_all()

    def close(self) -> None:
        """No more frames in or out; one that waits is dropped."""
        with self._changed:
            self._is_ending = True
            self._dropped += self._frame is not None
            self._frame = None
            self._changed.notify_all()
