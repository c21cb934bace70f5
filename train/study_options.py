"""What the commands share that play policies in many settings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import typer

from tnn_edge.errors import InputError
from tnn_edge.whole_file import check_writable
from train.record_file import Record, read_record

__all__ = ["Batteries", "Out", "Policies", "Simulations", "known_figures"]

Simulations: TypeAlias = Annotated[
    list[Path], typer.Argument(help="Simulation files, or one JSON file of figures to show.", show_default=False)
]
Policies: TypeAlias = Annotated[
    Path, typer.Option(help="Folder of policy files, *.toml or those of a battery in 120wh/.")
]
Batteries: TypeAlias = Annotated[
    list[float] | None,
    typer.Option(min=1.0, help="Usable energy of a battery; repeatable.", show_default="40, 120, 300"),
]
Out: TypeAlias = Annotated[
    Path | None, typer.Option(help="JSON file for the figures; one that is there goes on.", show_default=False)
]

R = TypeVar("R", bound=Record)


def known_figures(simulations: list[Path], out: Path | None, kind: type[R]) -> tuple[R, Path | None]:
    """The figures that there are, and the file into which more are written; None where they are only shown.

    Raises:
        InputError: `out` is missing, cannot be written, or is a file of something else.
    """
    if [path.suffix for path in simulations] == [".json"]:
        return read_record(simulations[0], kind), None
    if out is None:
        raise InputError("--out is missing: the JSON file for the figures, which take long to work out")
    check_writable(out, "JSON file")
    return (read_record(out, kind) if out.exists() else kind()), out
