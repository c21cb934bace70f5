"""`tnn-edge page`: what a camera's run left, as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tnn_edge.errors import InputError
from tnn_edge.printable import printable

__all__ = ["page"]


def page(
    database: Annotated[Path, typer.Argument(metavar="DATABASE", help="Result database.", show_default=False)],
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file; one that is there is replaced.")],
    run: Annotated[int | None, typer.Option(metavar="N", help="Number of the run; by default the last.")] = None,
) -> None:
    """Draw the page of a run from its database, also while the run goes on or after it was cut off.

    The page is one file without scripts that fetches nothing.
    """
    from tnn_edge.camera.database import files_of
    from tnn_edge.camera.results_page import write_page
    from tnn_edge.html_page import check_can_write_page

    if out.resolve() in (path.resolve() for path in files_of(database)):
        raise InputError(f"{out} is the database; name another file for the page")
    check_can_write_page(out)
    number = write_page(database, out, run=run)
    typer.echo(f"{printable(str(out))}: run {number}")
