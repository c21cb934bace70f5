"""`tnn-edge day`: a day of a modelled device with the real engine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tnn_edge.cli.options import (
    DeviceChoice,
    DeviceOption,
    JsonOption,
    PrecisionChoice,
    PrecisionOption,
    ThreadsOption,
    print_json,
    print_table,
)
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tnn_edge.camera.stopping import StopRequest
    from tnn_edge.day import Contest, Life, Scenario, Scenes
    from tnn_edge.runtime import Engine

__all__ = ["day"]


def day(
    scenario: Annotated[
        Path, typer.Argument(metavar="SCENARIO", help="Scenario file, as examples/demo/day.toml.", show_default=False)
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write FOLDER/day.html; a folder that is missing is made.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Run so many seeds, from the scenario's on.")] = 1,
    threads: ThreadsOption = 1,
    device: DeviceOption = DeviceChoice.auto,
    precision: PrecisionOption = PrecisionChoice.float32,
    as_json: JsonOption = False,
) -> None:
    """Run a policy through days of modelled weather on a modelled device, and compare it.

    Images, network and policies are real; sun, battery, panel, board and image sensor are modelled. The first policy is
    shown while its day runs. At the end stand the table of all policies, always u = 1 and the best constant u.

    Ctrl-C ends the run with what the finished seeds gave, and exits with 130; SIGTERM likewise with 143.
    """
    import tnn_edge
    from tnn_edge.camera.stopping import StopRequest
    from tnn_edge.day import as_json as result_as_json
    from tnn_edge.day import day_page, read_scenario
    from tnn_edge.html_page import write_page
    from tnn_edge.runtime.machine import describe_machine

    read = read_scenario(scenario)
    page = None if out is None else _page_in(out)
    settings = tnn_edge.SessionSettings(threads=threads)
    with tnn_edge.load(read.bundle, device.value, settings=settings, precision=precision.value) as engine:
        with StopRequest() as stop:
            contests = _run(read, engine, stop, n_seeds=seeds, to_stderr=as_json)
        machine = describe_machine() | {"device": engine.device, "precision": precision.value, "threads": threads}
        name, fallback = engine.manifest.name, engine.fallback
    if stop.is_set():
        typer.echo(f"stopped: {len(contests)} of {seeds} seeds are finished", err=True)
    if contests:
        if as_json:
            about = {"scenario": str(scenario), "bundle": name, "machine": machine, "fallback": fallback}
            print_json({**about, **result_as_json(contests)})
        else:
            _print(contests, read)
        if page is not None:  # after the numbers, which must not be lost to a page
            write_page(page, day_page(contests, read, machine, name))
            typer.echo(f"drawn: {printable(str(page))}", err=as_json)
    if stop.is_set():
        raise typer.Exit(stop.exit_code)


def _page_in(folder: Path) -> Path:
    """The page's path, once it is clear that it can be written."""
    from tnn_edge.html_page import check_can_write_page
    from tnn_edge.whole_file import make_folder

    make_folder(folder)
    check_can_write_page(folder / "day.html")
    return folder / "day.html"


class _Stopped(Exception):  # noqa: N818 -- a wish of the user's, no error
    """A seed was given up half-way."""


def _run(scenario: Scenario, engine: Engine, stop: StopRequest, *, n_seeds: int, to_stderr: bool) -> list[Contest]:
    """Every seed's contest, shown while it runs; of those that a signal left time for."""
    import sys

    from tnn_edge.camera.live_display import LiveDisplay
    from tnn_edge.day import LiveView, hold_contest

    def say(line: str) -> None:
        typer.echo(line, err=to_stderr)

    def watch(life: Life, scenes: Scenes) -> None:
        view.show(life, scenes)
        if stop.is_set():
            raise _Stopped

    contests: list[Contest] = []
    name = next(iter(scenario.policies))
    with LiveDisplay(enabled=sys.stderr.isatty()) as display, suppress(_Stopped):
        for seed in range(scenario.seed, scenario.seed + n_seeds):
            if n_seeds > 1 and not display.enabled:
                say(f"seed {seed}")
            view = LiveView(scenario, name if n_seeds == 1 else f"{name}, seed {seed}", display, say)
            view.start()
            contests.append(hold_contest(scenario, engine, seed=seed, on_period=watch))
            if stop.is_set():
                break
    return contests


def _print(contests: Sequence[Contest], scenario: Scenario) -> None:
    from tnn_edge.day.table import NOTES, mean_rows, rows

    for contest in contests:
        _print_rows(rows(contest), title=f"{scenario.path}, seed {contest.seed}; power is modelled")
    if len(contests) > 1:
        _print_rows(mean_rows(contests), title=f"mean of {len(contests)} seeds")
    typer.echo(NOTES)


def _print_rows(rows: list[list[str]], *, title: str) -> None:
    """A table with its headings; on a terminal that has no room for it, turned."""
    import sys

    from rich.console import Console
    from rich.text import Text

    from tnn_edge.day.narrow_table import fits, turned_tables
    from tnn_edge.day.table import HEADINGS

    console = Console()
    if not sys.stdout.isatty() or fits(rows, console.width):
        print_table(HEADINGS, rows, title=title)
        return
    console.print(Text(printable(title), style="table.title"), soft_wrap=True)
    for table in turned_tables(rows, console.width):
        console.print(table)
