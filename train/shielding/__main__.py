"""What the shield prevents and costs: ``python -m train.shielding train/seasons/*.toml --out FILE.json``."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tnn_edge.cli.options import print_table
from tnn_edge.cli.program import program
from tnn_edge.errors import InputError
from train.record_file import write_record
from train.setting import BATTERIES_WH, TUNED, Setting, read_settings
from train.setting_record import with_fresh
from train.shielding.playing import played_policies, protect
from train.shielding.record import Shielding, Twice
from train.shielding.telling import HEADINGS, cost_headings, cost_rows, rows, title
from train.study_options import Batteries, Out, Policies, Simulations, known_figures


def main(
    simulation: Simulations,
    policies: Policies = TUNED,
    battery_wh: Batteries = None,
    years: Annotated[int, typer.Option(min=1, max=1000, help="Years of weather and work in each setting.")] = 112,
    reserve_years: Annotated[int, typer.Option(min=1, max=1000, help="Years that a reserve is made of.")] = 50,
    period_s: Annotated[
        float, typer.Option(min=60.0, max=3600.0, help="Time between two decisions, a divisor of an hour.")
    ] = 3600.0,
    processes: Annotated[int, typer.Option(min=1, help="Settings at once.")] = len(os.sched_getaffinity(0)),
    out: Out = None,
) -> None:
    """Play policies without and with the reserve shield, and count the brown-outs that the floor would have avoided."""
    shielding, file = known_figures(simulation, out, Shielding)
    if file is not None:
        settings = read_settings(simulation, battery_wh or BATTERIES_WH, period_s=period_s)
        lacking = [
            (each, known)
            for each in settings
            for known in [_known(shielding, each, years, reserve_years)]
            if {name: twice.sha256 for name, twice in known.items()}
            != {name: file.sha256 for name, file in played_policies(policies, each).items()}
        ]
        console = Console(stderr=True)
        with (
            Progress(console=console, disable=not console.is_terminal, transient=True) as progress,
            ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool,
        ):
            bar = progress.add_task("shielding", total=len(lacking))
            played = [
                pool.submit(protect, each, policies, n_years=years, n_reserve_years=reserve_years, known=known)
                for each, known in lacking
            ]
            try:
                for future in as_completed(played):
                    shielding.settings = with_fresh(shielding.settings, future.result())
                    write_record(file, shielding)
                    progress.advance(bar)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    for told, is_sufficient in (("where the reserve fits", True), ("where it does not", False)):
        if found := [each for each in shielding.settings if each.is_sufficient == is_sufficient]:
            print_table(HEADINGS, rows(found), title=title(found, told))
    if not shielding.settings:
        raise InputError("there are no figures yet: name simulation files, and --out")
    print_table(
        cost_headings(shielding.settings),
        cost_rows(shielding.settings),
        title="utility with the shield less that without, in points of all events",
    )


def _known(shielding: Shielding, setting: Setting, n_years: int, n_reserve_years: int) -> dict[str, Twice]:
    """What was played in a setting already, under the same reserve."""
    for each in shielding.settings:
        is_same = (each.period_s, each.n_reserve_years) == (setting.simulation.period_s, n_reserve_years)
        if each.is_of(setting, n_years) and is_same:
            return each.policies
    return {}


if __name__ == "__main__":
    program(main)
