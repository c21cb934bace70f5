"""What a run shows while it goes on: a few lines on a terminal, redrawn in place."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.text import Text

from tnn_edge.printable import printable

__all__ = ["LiveDisplay", "one_line", "share_bar"]

_INTERVAL_S = 0.1

_BAR_COLUMNS = 24


class LiveDisplay:
    """Redraws at most ten times a second on stderr; without a terminal it does nothing.

    It has no thread of its own: a refreshing thread would take the interpreter from the frame that is being timed.

    Args:
        enabled: whether to draw at all.
        console: where to draw.
        clock: seconds, monotonic.
    """

    def __init__(
        self, *, enabled: bool, console: Console | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.enabled = enabled
        self._clock = clock
        self._drawn_at = float("-inf")
        console = Console(stderr=True) if console is None else console
        self._live = Live(
            Text(), console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False
        )

    def __enter__(self) -> LiveDisplay:
        if self.enabled:
            self._live.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.enabled:
            self._live.stop()

    def show(self, render: Callable[[], RenderableType]) -> None:
        """Show what `render` returns. It is not called where nothing would be drawn."""
        now = self._clock()
        if self.enabled and now - self._drawn_at >= _INTERVAL_S:
            self._drawn_at = now
            self._live.update(render(), refresh=True)

    def print_above(self, line: str) -> None:
        """Print a line that stays, above what is live."""
        self._live.console.print(line, soft_wrap=True, markup=False, highlight=False, emoji=False)


def share_bar(share: float | None, colour: str = "cyan") -> ProgressBar | Text:
    """A bar of a share in [0, 1]; nothing for the unknown."""
    if share is None:
        return Text(" " * _BAR_COLUMNS)
    return ProgressBar(total=1.0, completed=share, width=_BAR_COLUMNS, complete_style=colour, finished_style=colour)


def one_line(text: str) -> Text:
    """Safe text, cut off at the terminal's width."""
    return Text(printable(text), no_wrap=True, overflow="ellipsis")
