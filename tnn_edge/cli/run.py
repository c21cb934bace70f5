"""`tnn-edge run`: throttled inference on a source of images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import UNPRINTABLE, DeviceChoice, DeviceOption, ThreadsOption, printable

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

    from tnn_edge.camera import Record
    from tnn_edge.camera.line_file import LineFile
    from tnn_edge.camera.status_line import StatusLine

__all__ = ["run"]

_READER_LEFT = 128 + 13
"""Exit code that a shell gives to a program ended by SIGPIPE."""


def run(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="Image folder, image, video file, camera (0, /dev/...), stream (rtsp://...), or test:",
        ),
    ],
    bundle: Annotated[Path, typer.Option("--bundle", "-b", help="Bundle folder.")],
    u: Annotated[
        str,
        typer.Option(
            metavar="U|U1:U2",
            help="Throttle in [0, 1]; or a ramp over the source's frames, on a camera a swing there and back.",
        ),
    ] = "1",
    out: Annotated[str, typer.Option(metavar="FILE|-", help="Where the JSON lines go; - is stdout.")] = "-",
    limit: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    period: Annotated[int, typer.Option(min=2, help="Frames of a camera's ramp, there and back.")] = 200,
    append: Annotated[bool, typer.Option("--append", help="Add to FILE when it exists.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE when it exists.")] = False,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    as_json: Annotated[
        bool, typer.Option("--json", help='End the lines with the accounting: {"summary": {...}}.')
    ] = False,
) -> None:
    """Run a network on images, a video or a camera: one JSON line per frame, and an exact accounting.

    Images and videos are read frame by frame; of a camera or stream, always the newest frame is taken and those that
    came meanwhile are dropped. Each line has frame, name, time (UTC), u, point_u (operating point), blocks_run, macs,
    ms, age_ms (since capture), top1 and confidence, or an error. The accounting goes to stderr: captured = processed +
    dropped + failed. Ctrl-C finishes the frame in hand and exits with 130, SIGTERM with 143; the exit code is 1 when
    every frame failed.
    """
    import sys
    from contextlib import ExitStack

    import tnn_edge
    from tnn_edge.camera import Accounting, Dial, LatestFrames, open_source, run_frames
    from tnn_edge.camera.line_file import LineFile
    from tnn_edge.camera.pipeline import n_frames_ahead
    from tnn_edge.camera.status_line import StatusLine
    from tnn_edge.camera.stopping import StopRequest
    from tnn_edge.errors import InputError, SourceError

    # What fails cheaply comes first; the file is made last, when there is something to write to it.
    dial = Dial.parse(u, period=period)
    if out == "-" and (append or overwrite):
        raise InputError("--append and --overwrite are for a file; name one with --out FILE")
    file = None if out == "-" else LineFile(Path(out), append=append, overwrite=overwrite)
    settings = tnn_edge.SessionSettings(threads=threads)
    accounting = Accounting()
    status = StatusLine(enabled=sys.stdout.isatty() and sys.stderr.isatty())
    stop = StopRequest()
    with ExitStack() as stack:
        frames = open_source(source)
        if frames.is_live:
            frames = LatestFrames(
                frames, should_stop=stop.is_set, on_wait=lambda s: status.show(f"no frame for {s:.1f} s")
            )
        stack.enter_context(frames)
        engine = stack.enter_context(tnn_edge.load(bundle, device.value, settings=settings))
        write = _writer(stack.enter_context(file) if file else None, status)
        stack.enter_context(stop)
        n_frames = n_frames_ahead(frames, limit)

        def emit(record: Record) -> None:
            write(_to_json(record))
            status.show(_live_text(record, n_frames))

        try:
            try:
                with status:
                    run_frames(
                        frames, engine, dial, emit=emit, accounting=accounting, limit=limit, should_stop=stop.is_set
                    )
            finally:  # also when a camera fails in the middle
                if as_json:
                    write(_to_json({"summary": accounting.as_json()}))
        except BrokenPipeError as err:  # whoever read our lines has left (`| head`)
            raise typer.Exit(_READER_LEFT) from err
        finally:
            typer.echo(str(accounting), err=True)
    if stop.is_set():
        raise typer.Exit(stop.exit_code)
    if accounting.failed and not accounting.processed:
        raise SourceError(f"no result: all {accounting.failed} frames of {frames.description} failed")


def _writer(file: LineFile | None, status: StatusLine) -> Callable[[str], None]:
    """Where lines go. On a terminal they scroll above the live line."""
    if file is not None:
        return file.write
    if status.enabled:
        return status.print_above
    return typer.echo  # it flushes, so that a pipe's reader sees each frame at once


def _to_json(fields: Mapping[str, object]) -> str:
    import json

    line = json.dumps(fields, ensure_ascii=False, allow_nan=False)
    return UNPRINTABLE.sub(_json_escape, line)


def _json_escape(found: re.Match[str]) -> str:
    """The same character in JSON's notation; a byte that is no UTF-8, which JSON has no notation for, as text."""
    import json

    char = found[0]
    return json.dumps(printable(char) if "\ud800" <= char <= "\udfff" else char)[1:-1]


def _live_text(record: Record, n_frames: int | None) -> str:
    frame = f"frame {record['frame'] + 1}" + (f"/{n_frames}" if n_frames else "")
    if "error" in record:
        return printable(f"{frame}  {record['name']}: {record['error']}")
    return printable(
        f"{frame}  u {record['u']:.3f} (point {record['point_u']:.3f})  {record['blocks_run']} blocks  "
        f"{record['macs'] / 1e6:.1f} MMACs  {record['ms']:.2f} ms  {record['top1']} {record['confidence']:.2f}"
    )
