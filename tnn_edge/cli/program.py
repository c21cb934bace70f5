"""How every command of this project ends: errors as one line, Ctrl-C as an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable

import typer

from tnn_edge.errors import TnnEdgeError

__all__ = ["program", "run_app"]


def run_app(app: typer.Typer) -> None:
    """Run a typer app; a `TnnEdgeError` becomes one line on stderr and exit code 1."""
    try:
        app()
    except TnnEdgeError as err:
        typer.echo(f"error: {err}", err=True)
        sys.exit(1)


def program(main: Callable[..., None]) -> None:
    """Run one function as a command line program."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    run_app(app)
