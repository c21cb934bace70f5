"""Rank policies beside the optimum: ``python -m train.ranking train/seasons/*.toml --out FILE.json``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from tnn_edge.cli.options import print_table
from tnn_edge.cli.program import program
from tnn_edge.errors import InputError
from tnn_edge.picture_file import check_can_draw, write_picture
from tnn_edge.whole_file import check_writable
from train.ranking.picture import draw_ranking_png
from train.ranking.playing import rank
from train.ranking.record import Ranking
from train.ranking.telling import HEADINGS, rows, title, verdict
from train.record_file import read_record
from train.setting import BATTERIES_WH, TUNED, read_settings


def main(
    simulation: Annotated[
        list[Path], typer.Argument(help="Simulation files, or one JSON file of a ranking to show.", show_default=False)
    ],
    policies: Annotated[
        Path, typer.Option(help="Folder of policy files, *.toml or those of a battery in 120wh/.")
    ] = TUNED,
    battery_wh: Annotated[
        list[float] | None,
        typer.Option(min=1.0, help="Usable energy of a battery; repeatable.", show_default="40, 120, 300"),
    ] = None,
    years: Annotated[int, typer.Option(min=1, max=100, help="Years of weather and work in each setting.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Optima sought at once.")] = len(os.sched_getaffinity(0)),
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the figures; one that is there goes on.", show_default=False)
    ] = None,
    png: Annotated[
        Path | None, typer.Option(help="Picture: the share of the optimum of every policy.", show_default=False)
    ] = None,
) -> None:
    """Rank policies beside the optimum, on years that nothing was tuned on."""
    if png is not None:
        check_can_draw(png)
    if [path.suffix for path in simulation] == [".json"]:
        ranking = read_record(simulation[0], Ranking)
    else:
        if out is None:
            raise InputError("--out is missing: the JSON file for the figures, which take long to work out")
        check_writable(out, "JSON file")
        ranking = read_record(out, Ranking) if out.exists() else Ranking()
        settings = read_settings(simulation, battery_wh or BATTERIES_WH)
        console = Console(stderr=True)
        with Progress(console=console, disable=not console.is_terminal, transient=True) as progress:
            bar = progress.add_task("ranking", total=1.0)
            rank(
                settings,
                policies,
                ranking,
                n_years=years,
                n_threads=threads,
                out=out,
                on_progress=lambda told, share: progress.update(bar, description=told, advance=share),
            )
    for ranked in ranking.settings:
        if ranked.optima:
            print_table(HEADINGS, rows(ranked), title=title(ranked))
    for line in verdict(ranking):
        typer.echo(line)
    if png is not None:
        write_picture(png, draw_ranking_png(ranking))


if __name__ == "__main__":
    program(main)
