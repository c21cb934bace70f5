"""One run of a network on a source, from opening everything to the accounting, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from tnn_edge.cli.warning_lines import warnings_told
from tnn_edge.errors import SourceError, TnnEdgeError
from tnn_edge.printable import UNPRINTABLE, printable

if TYPE_CHECKING:
    import re

    from rich.console import RenderableType

    import tnn_edge
    from tnn_edge.camera import Accounting, Chooser, FrameSource, Record
    from tnn_edge.camera.database import ResultDatabase
    from tnn_edge.camera.line_file import LineFile
    from tnn_edge.camera.live_display import LiveDisplay
    from tnn_edge.camera.stopping import StopRequest
    from tnn_edge.runtime.installing.plan_key import Precision

__all__ = ["Job"]

_READER_LEFT = 128 + 13
"""Exit code that a shell gives to a program ended by SIGPIPE."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to run, and what it leaves.

    Attributes:
        open_source: opens the source.
        bundle: the bundle's folder.
        device: where to run.
        threads: that compute one inference.
        precision: what to compute in.
        max_resident_mb: memory for operating points, in MB of 2^20 bytes; None keeps all of them in memory.
        chooser: makes the chooser of the throttle, from a function that takes notes for the user.
        view: what is shown of a record, with the accounting so far and the number of frames to come.
        open_lines: makes ready what takes results, once there is a source; the file of the JSON lines, if any.
        to_stdout: whether JSON lines go to stdout.
        open_database: makes the database from the source's description, the engine and the accounting.
        page: HTML page of the run, drawn from the database when the run ends.
        limit: end after so many frames.
        stall_s: seconds without a frame after which a live source is given up.
        as_json: end the lines with the accounting.
    """

    open_source: Callable[[], FrameSource]
    bundle: Path
    device: Literal["auto", "cpu", "cuda"]
    threads: int
    chooser: Callable[[Callable[[str], None]], Chooser]
    view: Callable[[Record, Accounting, int | None], RenderableType]
    open_lines: Callable[[], LineFile | None] = lambda: None
    to_stdout: bool = True
    open_database: Callable[[str, tnn_edge.Engine, Accounting], ResultDatabase] | None = None
    page: Path | None = None
    limit: int | None = None
    stall_s: float = 10.0
    precision: Precision = "float32"
    max_resident_mb: float | None = None
    as_json: bool = False

    def execute(self) -> None:
        """Run to the end, a signal or an error. Ctrl-C finishes the frame in hand.

        Raises:
            typer.Exit: a signal ended it, or whoever read stdout has left.
            SourceError: not one frame had a result.
        """
        import sys

        from tnn_edge.camera import Accounting
        from tnn_edge.camera.live_display import LiveDisplay
        from tnn_edge.camera.stopping import StopRequest

        accounting, stop = Accounting(), StopRequest()
        display = LiveDisplay(enabled=sys.stdout.isatty() and sys.stderr.isatty())
        with ExitStack() as stack:
            stack.enter_context(warnings_told(lambda line: _tell(line, display)))
            results = _Results()
            chooser = self.chooser(lambda note: _tell(f"note: {printable(note)}", display))
            frames = stack.enter_context(self._open_frames(stop, display, results))
            lines = self.open_lines()
            engine = stack.enter_context(self._load())
            # Until here Ctrl-C ends the program at once; from here on until every file is closed it is a wish.
            stack.enter_context(stop)
            # Files are made last, when there is something to write to them.
            results.targets = self._targets(stack, display, lines)
            if self.open_database is not None:
                stack.push(lambda _type, failure, _trace: self._draw_page(results, failure))  # once the file is closed
                results.database = stack.enter_context(self.open_database(frames.description, engine, accounting))
            self._run(frames, engine, chooser, results, accounting, stop, display)
            if results.database is not None and stop.signum is not None:
                results.database.ended_by = f"signal {stop.signum}"
        if stop.is_set():
            raise typer.Exit(stop.exit_code)
        if accounting.failed and not accounting.processed:
            raise SourceError(f"no result: all {accounting.failed} frames of {frames.description} failed")

    def _load(self) -> tnn_edge.Engine:
        import tnn_edge

        return tnn_edge.load(
            self.bundle,
            self.device,
            settings=tnn_edge.SessionSettings(threads=self.threads),
            precision=self.precision,
            max_resident_mb=self.max_resident_mb,
        )

    def _open_frames(self, stop: StopRequest, display: LiveDisplay, results: _Results) -> FrameSource:
        from tnn_edge.camera import LatestFrames
        from tnn_edge.camera.live_display import one_line

        def wait(seconds: float) -> None:
            display.show(lambda: one_line(f"no frame for {seconds:.1f} s"))
            results.wait()

        frames = self.open_source()
        if not frames.is_live:
            return frames
        return LatestFrames(frames, stall_s=self.stall_s, should_stop=stop.is_set, on_wait=wait)

    def _run(
        self,
        frames: FrameSource,
        engine: tnn_edge.Engine,
        chooser: Chooser,
        results: _Results,
        accounting: Accounting,
        stop: StopRequest,
        display: LiveDisplay,
    ) -> None:
        from tnn_edge.camera import run_frames
        from tnn_edge.camera.pipeline import n_frames_ahead

        n_frames = n_frames_ahead(frames, self.limit)

        def emit(record: Record) -> None:
            results.add(record)
            display.show(lambda: self.view(record, accounting, n_frames))

        try:
            try:
                with display:
                    run_frames(
                        frames,
                        engine,
                        chooser,
                        emit=emit,
                        accounting=accounting,
                        limit=self.limit,
                        should_stop=stop.is_set,
                    )
            finally:  # also when a camera fails in the middle
                if self.as_json:
                    results.write({"summary": accounting.as_json()})
        except BrokenPipeError as err:  # whoever read our lines has left (`| head`)
            if results.database is not None:
                results.database.ended_by = "reader of the lines left"
            raise typer.Exit(_READER_LEFT) from err
        finally:
            typer.echo(str(accounting), err=True)

    def _draw_page(self, results: _Results, failure: BaseException | None) -> None:
        from tnn_edge.camera.results_page import write_page

        database = results.database
        if self.page is None or database is None or isinstance(failure, KeyboardInterrupt):
            return
        try:
            write_page(database.path, self.page, run=database.run)
        except TnnEdgeError as err:
            if failure is None:
                raise
            typer.echo(f"warning: {printable(str(err))}", err=True)  # the run's own error is the one to end with
        else:
            typer.echo(f"page: {printable(str(self.page))}", err=True)

    def _targets(self, stack: ExitStack, display: LiveDisplay, lines: LineFile | None) -> list[Callable[[str], None]]:
        """Where lines go. On a terminal they scroll above what is live."""
        targets: list[Callable[[str], None]] = []
        if lines is not None:
            targets.append(stack.enter_context(lines).write)
        if self.to_stdout:
            # echo flushes, so that a pipe's reader sees each frame at once
            targets.append(display.print_above if display.enabled else typer.echo)
        return targets


class _Results:
    """Where records go, as far as it is open.

    Attributes:
        targets: take JSON lines.
        database: takes records.
    """

    def __init__(self) -> None:
        self.targets: list[Callable[[str], None]] = []
        self.database: ResultDatabase | None = None

    def add(self, record: Record) -> None:
        """Keep one record."""
        self.write(record)
        if self.database is not None:
            self.database.add(record)

    def write(self, fields: Mapping[str, object]) -> None:
        """Write one line."""
        if self.targets:
            line = _to_json(fields)
            for target in self.targets:
                target(line)

    def wait(self) -> None:
        """No frame comes: a moment for what waits to be written."""
        if self.database is not None:
            self.database.commit_if_due()


def _tell(line: str, display: LiveDisplay) -> None:
    if display.enabled:
        display.print_above(line)
    else:
        typer.echo(line, err=True)


def _to_json(fields: Mapping[str, object]) -> str:
    import json

    line = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    return UNPRINTABLE.sub(_json_escape, line)


def _json_escape(found: re.Match[str]) -> str:
    """The same character in JSON's notation; a byte that is no UTF-8, which JSON has no notation for, as text."""
    import json

    char = found[0]
    return json.dumps(printable(char) if "\ud800" <= char <= "\udfff" else char)[1:-1]
