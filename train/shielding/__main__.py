"""What the shield prevents and costs: ``python -m train.shielding train/seasons/*.toml --out FILE.json``."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tnn_edge.cli.options import print_table
from tnn_edge.cli.program import program
from tnn_edge.errors import InputError
from tnn_edge.whole_file import check_writable
from train.record_file import read_record, write_record
from train.setting import BATTERIES_WH, TUNED, Setting, read_settings
from train.setting_record import with_fresh
from train.shielding.playing import played_policies, protect
from train.shielding.record import Shielding
from train.shielding.telling import HEADINGS, cost_headings, cost_rows, rows, title


def main(
    simulation: Annotated[
        list[Path], typer.Argument(help="Simulation files, or one JSON file of figures to show.", show_default=False)
    ],
    policies: Annotated[
        Path, typer.Option(help="Folder of policy files, *.toml or those of a battery in 120wh/.")
    ] = TUNED,
    battery_wh: Annotated[
        list[float] | None,
        typer.Option(min=1.0, help="Usable energy of a battery; repeatable.", show_default="40, 120, 300"),
    ] = None,
    years: Annotated[int, typer.Option(min=1, max=1000, help="Years of weather and work in each setting.")] = 112,
    reserve_years: Annotated[int, typer.Option(min=1, max=1000, help="Years that a reserve is made of.")] = 50,
    processes: Annotated[int, typer.Option(min=1, help="Settings at once.")] = len(os.sched_getaffinity(0)),
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the figures; one that is there goes on.", show_default=False)
    ] = None,
) -> None:
    """Play policies without and with the reserve shield, and count the brown-outs that the floor would have avoided."""
    if [path.suffix for path in simulation] == [".json"]:
        shielding = read_record(simulation[0], Shielding)
    else:
        if out is None:
            raise InputError("--out is missing: the JSON file for the figures, which take long to work out")
        check_writable(out, "JSON file")
        shielding = read_record(out, Shielding) if out.exists() else Shielding()
        settings = read_settings(simulation, battery_wh or BATTERIES_WH)
        lacking = [each for each in settings if not _is_known(shielding, each, policies, years)]
        console = Console(stderr=True)
        with (
            Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
            ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool,
        ):
            bar = progress.add_task("shielding", total=len(lacking))
            played = [
                pool.submit(protect, each, policies, n_years=years, n_reserve_years=reserve_years) for each in lacking
            ]
            try:
                for future in as_completed(played):
                    shielding.settings = with_fresh(shielding.settings, future.result())
                    write_record(out, shielding)
                    progress.advance(bar)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for told, is_sufficient in (("where the reserve fits", True), ("where it does not", False)):
        if found := [each for each in shielding.settings if each.is_sufficient == is_sufficient]:
            print_table(HEADINGS, rows(found), title=title(found, told))
    print_table(
        cost_headings(shielding.settings),
        cost_rows(shielding.settings),
        title="utility with the shield less that without, in points of all events",
    )


def _is_known(shielding: Shielding, setting: Setting, policies: Path, n_years: int) -> bool:
    files = played_policies(policies, setting)
    return any(
        each.is_of(setting, n_years)
        and {name: twice.sha256 for name, twice in each.policies.items()}
        == {name: file.sha256 for name, file in files.items()}
        for each in shielding.settings
    )


if __name__ == "__main__":
    program(main)
