"""Options that several commands share, and how commands print."""

from __future__ import annotations

import json
import sys
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tnn_edge.printable import printable

__all__ = [
    "BundleArgument",
    "DeviceChoice",
    "DeviceOption",
    "JsonOption",
    "ThreadsOption",
    "print_json",
    "print_table",
]

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, which has no width of its own."""


class DeviceChoice(str, Enum):
    """Where to run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="cpu and cuda are strict; auto takes CUDA where there is.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ThreadsOption = Annotated[int, typer.Option(min=1, help="Threads that compute one inference.")]


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(value, indent=1))


def print_table(headings: list[str], rows: list[list[str]], *, title: str | None = None) -> None:
    """A table on stdout; all columns to the right but the first."""
    table = Table()  # of texts: a string would be read as markup
    for i, heading in enumerate(headings):
        table.add_column(Text(printable(heading)), justify="left" if i == 0 else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PIPED_WIDTH)
    if title is not None:  # a table breaks its own title at its width, and a path in two
        console.print(Text(printable(title), style="table.title"), soft_wrap=True)
    console.print(table)
