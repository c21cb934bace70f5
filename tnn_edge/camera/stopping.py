"""Ctrl-C and SIGTERM as a wish that the loop grants between two frames."""

from __future__ import annotations

import signal
from types import FrameType, TracebackType

__all__ = ["StopRequest"]


class StopRequest:
    """Inside `with`, the first SIGINT or SIGTERM is noted; a second one does what it always did, at once.

    A signal that the process ignores stays ignored (a shell's background job ignores SIGINT). Main thread only, as
    Python has it.

    Attributes:
        signum: the signal that came; None before.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[signal.Signals, signal._HANDLER] = {}

    def __enter__(self) -> StopRequest:
        for signum in self._SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                self._previous[signum] = signal.signal(signum, self._note)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._restore()

    def is_set(self) -> bool:
        """Whether a signal came."""
        return self.signum is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended, 128 + signal; 0 when none came."""
        return 0 if self.signum is None else 128 + self.signum

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self.signum = signum
        self._restore()

    def _restore(self) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()
