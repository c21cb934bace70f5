"""Options that several commands share, and how commands print."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tnn_edge.errors import InputError
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from tnn_edge.runtime.providers import Device

__all__ = [
    "MOST_ROUNDS",
    "BundleArgument",
    "DeviceChoice",
    "DeviceOption",
    "JsonOption",
    "MaxResidentOption",
    "PrecisionChoice",
    "PrecisionOption",
    "ThreadsOption",
    "check_goes_without",
    "device_for",
    "in_precision",
    "is_given",
    "print_json",
    "print_table",
]

MOST_ROUNDS = 1_000_000
"""What is timed more often takes days, and memory for each time."""

_MOST_MB = 1e9

_PIPED_WIDTH = 160
"""Columns of a table that goes to a file or a pipe, which has no width of its own."""


class DeviceChoice(str, Enum):
    """Where to run."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionChoice(str, Enum):
    """What to compute in."""

    float32 = "float32"
    int8 = "int8"


def _check_megabytes(value: float | None) -> float | None:
    if value is not None and not 0.0 < value <= _MOST_MB:
        raise InputError(
            f"--max-resident-mb must lie in (0, {_MOST_MB:g}], got {value:g}; without it every operating point is in "
            "memory"
        )
    return value


BundleArgument = Annotated[Path, typer.Argument(help="Folder of the bundle.", show_default=False)]
DeviceOption = Annotated[DeviceChoice, typer.Option(help="cpu and cuda are strict; auto takes CUDA where there is.")]
PrecisionOption = Annotated[PrecisionChoice, typer.Option(help="int8 on the CPU, where the bundle has ranges for it.")]
MaxResidentOption = Annotated[
    float | None,
    typer.Option(
        metavar="MB",
        callback=_check_megabytes,
        help="Memory for operating points, MB of 2^20 bytes; one that is not in it loads when it is asked for, and the "
        "nearest lower one answers meanwhile. By default all are in memory.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ThreadsOption = Annotated[int, typer.Option(min=1, max=256, help="Threads that compute one inference.")]


def is_given(context: typer.Context, option: str) -> bool:
    """Whether an option was written, which would be passed over in silence."""
    origin = context.get_parameter_source(option)
    return origin is not None and origin.name == "COMMANDLINE"  # by name: typer has its own copy of click, or not


def check_goes_without(context: typer.Context, option: str, others: Iterable[str]) -> None:
    """Refuse an option beside which others would do nothing.

    Args:
        context: the command's.
        option: as it is written, `--settings`.
        others: parameters of the command.

    Raises:
        typer.BadParameter: one of them was written.
    """
    for other in filter(lambda other: is_given(context, other), others):
        raise typer.BadParameter(f"it goes without --{other}", param_hint=option)


def device_for(device: DeviceChoice, precision: PrecisionChoice) -> Device:
    """The device that auto means; 8-bit integers run on the CPU alone.

    Raises:
        ProviderError: the device cannot be had.
    """
    from tnn_edge.runtime.device_choice import choose_device

    return choose_device("cpu" if (device, precision) == ("auto", "int8") else device.value)


def in_precision(name: str, precision: object) -> str:
    """A network's name, with its precision where that is not the usual one."""
    return name if precision == "float32" else f"{name} in {precision}"


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
    console = Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
    if _width(table, console) > console.width:  # a figure that is cut off is lost: first the frame goes
        table.box, table.pad_edge, table.padding = None, False, (0, 1, 0, 0)
        console = Console(width=max(console.width, _width(table, console)))  # then the terminal breaks its lines
    if title is not None:  # a table breaks its own title at its width, and a path in two
        console.print(Text(printable(title), style="table.title"), soft_wrap=True)
    console.print(table)


def _width(table: Table, console: Console) -> int:
    """Columns in which nothing of a table is cut off."""
    return console.measure(table, options=console.options.update(max_width=10_000)).maximum
