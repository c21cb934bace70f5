"""`tnn-edge run`: throttled inference on a source of images, the dial set by hand or by a policy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.job import Job
from tnn_edge.cli.options import (
    DeviceChoice,
    DeviceOption,
    MaxResidentOption,
    PrecisionChoice,
    PrecisionOption,
    ThreadsOption,
    is_given,
)
from tnn_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.text import Text

    import tnn_edge
    from tnn_edge.camera import Accounting, Record
    from tnn_edge.camera.config import CameraConfig
    from tnn_edge.camera.config_tables import OutputTable
    from tnn_edge.camera.database import ResultDatabase
    from tnn_edge.camera.line_file import LineFile
    from tnn_edge.camera.pilot import Pilot

__all__ = ["run"]

_CONFIG_SUFFIX = ".toml"
_OF_A_SOURCE = {
    "bundle": "has [engine] bundle",
    "u": "has a policy that sets u",
    "period": "has a policy that sets u",
    "out": "has [output] lines",
    "append": "always adds to its [output]",
    "overwrite": "always adds to its [output]",
    "threads": "has [engine] threads",
    "device": "has [engine] device",
    "precision": "has [engine] precision",
    "max_resident_mb": "has [engine] max_resident_mb",
}
"""Options that a configuration takes the place of, and what it has in their stead."""


def run(
    context: typer.Context,
    what: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE|CONFIG.toml",
            help="Image folder, image, video file, camera (0, /dev/...), stream (rtsp://...), or test:; "
            "or a configuration, which names a policy",
            show_default=False,
        ),
    ],
    bundle: Annotated[Path | None, typer.Option("--bundle", "-b", help="Bundle folder.")] = None,
    u: Annotated[
        str,
        typer.Option(
            metavar="U|U1:U2",
            help="Throttle in [0, 1]; or a ramp over the source's frames, on a camera a swing there and back.",
        ),
    ] = "1",
    out: Annotated[str, typer.Option(metavar="FILE|-", help="Where the JSON lines go; - is stdout.")] = "-",
    limit: Annotated[int | None, typer.Option(min=1, max=10**12, help="End after so many frames.")] = None,
    period: Annotated[int, typer.Option(min=2, help="Frames of a camera's ramp, there and back.")] = 200,
    append: Annotated[bool, typer.Option("--append", help="Add to FILE when it exists.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace FILE when it exists.")] = False,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    max_resident_mb: MaxResidentOption = None,
    source: Annotated[
        str | None, typer.Option(metavar="SOURCE", help="With CONFIG.toml: another source than it names.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help='End the lines with the accounting: {"summary": {...}}.')
    ] = False,
) -> None:
    """Run a network on images, a video or a camera: one JSON line per frame, and an exact accounting.

    With SOURCE the options say what runs; with CONFIG.toml the file does (`tnn-edge config check` explains it), and its
    policy turns the dial.

    Images and videos are read frame by frame; of a camera or stream, always the newest frame is taken and those that
    came meanwhile are dropped. Each line has frame, name, time (UTC), u, asked_u (the operating point that u selects),
    point_u (the one that ran, lower while that is not in memory), blocks_run, macs, ms, age_ms (since capture), top1
    and confidence, or an error; under a policy also decision, reason and observed. The accounting goes to stderr:
    captured = processed + dropped + failed. Ctrl-C finishes the frame in hand and exits with 130, SIGTERM with 143; the
    exit code is 1 when every frame failed.
    """
    if what.lower().endswith(_CONFIG_SUFFIX):
        for option in filter(lambda option: is_given(context, option), _OF_A_SOURCE):
            raise InputError(f"--{option.replace('_', '-')} is for a source; {what} {_OF_A_SOURCE[option]}")
        _job_of_config(Path(what), source, limit=limit, as_json=as_json).execute()
        return
    if is_given(context, "source"):
        raise InputError("--source is for a configuration; name one, or the source alone")
    if bundle is None:
        raise InputError("no bundle: name the network with --bundle FOLDER, or a configuration in place of the source")
    from tnn_edge.camera import Dial, open_source
    from tnn_edge.camera.line_file import LineFile

    # What fails cheaply comes first.
    dial = Dial.parse(u, period=period)
    if out == "-" and (append or overwrite):
        raise InputError("--append and --overwrite are for a file; name one with --out FILE")
    file = None if out == "-" else LineFile(Path(out), append=append, overwrite=overwrite)
    Job(
        open_source=lambda: open_source(what),
        bundle=bundle,
        device=device.value,
        threads=threads,
        precision=precision.value,
        max_resident_mb=max_resident_mb,
        chooser=lambda _note: dial,
        view=_live_text,
        open_lines=lambda: file,
        to_stdout=out == "-",
        limit=limit,
        as_json=as_json,
    ).execute()


def _job_of_config(path: Path, source: str | None, *, limit: int | None, as_json: bool) -> Job:
    from tnn_edge.camera.config import read_config
    from tnn_edge.camera.dashboard import dashboard

    config = read_config(path, source=source)
    output = config.output
    to_stdout = output.lines is None and output.database is None
    if as_json and output.lines is None and not to_stdout:
        raise InputError(f"--json ends the lines, and [output] in {path} has none; add lines = FILE to it")
    return Job(
        open_source=config.open_source,
        bundle=config.engine.bundle,
        device=config.engine.device,
        threads=config.engine.threads,
        precision=config.engine.precision,
        max_resident_mb=config.engine.max_resident_mb,
        chooser=lambda note: _pilot(config, note),
        view=dashboard,
        open_lines=lambda: _open_lines(output),
        to_stdout=to_stdout,
        open_database=None if output.database is None else _database(config, output.database),
        page=output.page,
        limit=limit,
        stall_s=config.stall_s,
        as_json=as_json,
    )


def _open_lines(output: OutputTable) -> LineFile | None:
    """Make the folders that are missing, see that the page can be written, and name the file of the lines."""
    from tnn_edge.camera.line_file import LineFile
    from tnn_edge.html_page import check_can_write_page
    from tnn_edge.whole_file import make_folder

    for to in output.files.values():
        make_folder(to.parent)
    if output.page is not None:
        check_can_write_page(output.page)
    return None if output.lines is None else LineFile(output.lines, append=True)


def _pilot(config: CameraConfig, note: Callable[[str], None]) -> Pilot:
    from tnn_edge.camera.pilot import Pilot
    from tnn_edge.device import SysfsThermometer, open_power

    power, settings = config.power, config.policy_settings
    return Pilot(
        config.policy,
        power=open_power(
            root=power.root, backend=power.backend, need_battery=power.need_battery, not_mains=power.not_mains
        ),
        thermometer=SysfsThermometer(config.temperature.root, zone=config.temperature.zone),
        light=config.light,
        period_s=settings.period_s,
        confidence_time_constant_s=settings.confidence_time_constant_s,
        on_note=note,
    )


def _database(config: CameraConfig, path: Path) -> Callable[[str, tnn_edge.Engine, Accounting], ResultDatabase]:
    from tnn_edge.camera.database import ResultDatabase

    return lambda source, engine, accounting: ResultDatabase(
        path,
        source=source,
        bundle=engine.manifest.name,
        digest=engine.bundle.digest,
        config=config.text,
        accounting=accounting,
        commit_period_s=config.output.commit_period_s,
    )


def _live_text(record: Record, _accounting: Accounting, n_frames: int | None) -> Text:
    from tnn_edge.camera.dashboard import answer_text, frame_text, lowered_text
    from tnn_edge.camera.live_display import one_line

    throttle = ""
    if "error" not in record:
        point = lowered_text(record) or f"point {record['point_u']:.3f}"
        throttle = f"u {record['u']:.3f} ({point})  "
    return one_line(f"{frame_text(record, n_frames)}  {throttle}{answer_text(record)}")
