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
from train.ranking.picture import draw_ranking_png
from train.ranking.playing import rank
from train.ranking.record import Ranking
from train.ranking.telling import HEADINGS, rows, title, verdict
from train.setting import BATTERIES_WH, TUNED, read_settings
from train.study_options import Batteries, Out, Policies, Simulations, known_figures


def main(
    simulation: Simulations,
    policies: Policies = TUNED,
    battery_wh: Batteries = None,
    years: Annotated[int, typer.Option(min=1, max=100, help="Years of weather and work in each setting.")] = 20,
    threads: Annotated[int, typer.Option(min=1, help="Optima sought at once.")] = len(os.sched_getaffinity(0)),
    out: Out = None,
    png: Annotated[
        Path | None, typer.Option(help="Picture: the share of the optimum of every policy.", show_default=False)
    ] = None,
) -> None:
    """Rank policies beside the optimum, on years that nothing was tuned on."""
    if png is not None:
        check_can_draw(png)
    ranking, file = known_figures(simulation, out, Ranking)
    if file is not None:
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
                out=file,
                on_progress=lambda told, share: progress.update(bar, description=told, advance=share),
            )
    if not any(ranked.optima for ranked in ranking.settings):
        raise InputError("there are no figures yet: name simulation files, and --out")
    for ranked in ranking.settings:
        if ranked.optima:
            print_table(HEADINGS, rows(ranked), title=title(ranked))
    for line in verdict(ranking):
        typer.echo(line)
    if png is not None:
        write_picture(png, draw_ranking_png(ranking))


if __name__ == "__main__":
    program(main)
