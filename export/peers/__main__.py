"""Measure every way of running a throttleable network: ``python -m export.peers RUN --out FILE.json``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from export.peers.comparison import Comparison, read_comparisons
from export.peers.picture import draw_peers_png
from export.peers.telling import headings, rows, title, verdict
from export.peers.ways import LABELS, OURS
from tnn_edge.cli.options import print_table
from tnn_edge.cli.program import program
from tnn_edge.picture_file import check_can_draw, write_picture
from tnn_edge.throttle import check_throttle
from tnn_edge.whole_file import check_writable, write_whole

_DIAL = (1.0, 0.75, 0.5, 0.25, 0.125)
_KIND = "JSON file"


def main(
    run: Annotated[
        list[Path], typer.Argument(help="Folder of a training run, or a JSON file of kept figures to show.")
    ],
    u: Annotated[
        list[float] | None, typer.Option(help="Throttle; repeatable.", show_default="1 .75 .5 .25 .125")
    ] = None,
    threads: Annotated[
        list[int] | None, typer.Option(min=1, help="Threads that compute one inference; repeatable.", show_default="1")
    ] = None,
    way: Annotated[
        list[str] | None,
        typer.Option(help=f"Way to compare with tnn_edge; repeatable: {', '.join(n for n in LABELS if n != OURS)}."),
    ] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Passes over all ways and settings.")] = 30,
    out: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
    png: Annotated[Path | None, typer.Option(help="Picture: latency against u, memory against latency.")] = None,
) -> None:
    """Compare this engine with the other ways of running the same network: latency, switch time, memory, disk."""
    names = [OURS, *(name for name in LABELS if name != OURS and (way is None or name in way))]
    if unknown := [name for name in way or [] if name not in LABELS]:
        raise typer.BadParameter(f"{unknown[0]!r} is no way; there are {', '.join(LABELS)}", param_hint="--way")
    dial = _DIAL if u is None else tuple(u)
    for setting in dial:
        check_throttle(setting)
    if out is not None:
        check_writable(out, _KIND)
    if png is not None:
        check_can_draw(png)
    comparisons: list[Comparison] = []
    for path in run:
        if path.is_file():
            comparisons += read_comparisons(path)
        else:
            comparisons += _measure(path, dial, names, threads=threads or [1], rounds=rounds)
    for comparison in comparisons:
        print_table(headings(comparison), rows(comparison), title=title(comparison))
        typer.echo(verdict(comparison))
    if out is not None:
        record = {"comparisons": [comparison.as_json() for comparison in comparisons]}
        write_whole(out, (json.dumps(record, indent=1) + "\n").encode(), _KIND)
    if png is not None:
        write_picture(png, draw_peers_png(comparisons))


def _measure(
    run: Path, dial: tuple[float, ...], names: list[str], *, threads: list[int], rounds: int
) -> list[Comparison]:
    from export.peers.measuring import compare
    from export.peers.preparation import prepare

    def tell(step: str) -> None:
        typer.echo(f"{run.name}: {step}", err=True)

    with tempfile.TemporaryDirectory(prefix="peers.") as folder:
        work = prepare(run, dial, names, Path(folder), tell)
        return [compare(work, names, threads=n, rounds=rounds, on_step=tell) for n in threads]


if __name__ == "__main__":
    program(main)
