"""``tnn-edge doctor``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from tnn_edge.cli.options import DeviceChoice, DeviceOption, JsonOption, print_json
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from tnn_edge.doctor import Finding, Report

__all__ = ["doctor"]


def doctor(device: DeviceOption = DeviceChoice.auto, as_json: JsonOption = False) -> None:
    """Look at what a network needs to run here; each fault is told with its cause and what mends it.

    With --device cuda the lack of CUDA is a fault, with --device cpu nothing about CUDA is one. Nothing is changed.

    The exit code is 0 when there is no fault, notes or not; else that of the first class with a fault:

    10 this Python is not supported
    11 a package is missing, too old or broken
    12 there is no ONNX Runtime
    13 there are several, or one over another
    14 ONNX Runtime cannot be imported
    15 ONNX Runtime is too old
    16 a provider fails, or is not there though asked for
    17 there is too little memory
    18 the cache cannot be written, or its disk is full
    19 a camera or OpenCV cannot be used
    20 the clock is wrong
    21 a check itself failed
    """
    from tnn_edge.doctor import Surroundings, examine

    report = examine(Surroundings(device=device.value))
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)
    raise typer.Exit(report.exit_code)


def _print(report: Report) -> None:
    """A table of everything, then cause and cure of what is not well, whole, so that they can be copied."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for heading in ("check", "status", "seen"):
        table.add_column(heading, overflow="fold")
    for finding in report.findings:
        table.add_row(finding.check, finding.status.value, Text(printable(finding.seen)))
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    for finding in sorted(report.findings, key=lambda finding: finding.code or 100):
        if finding.cause is not None:
            _print_cure(finding)
    n_faults = sum(finding.code is not None for finding in report.findings)
    typer.echo("no fault" if not n_faults else f"{n_faults} fault{'s' * (n_faults > 1)}, exit code {report.exit_code}")


def _print_cure(finding: Finding) -> None:
    code = "" if finding.code is None else f" {int(finding.code)}"
    typer.echo(f"{finding.status.value}{code}, {finding.check}: {printable(finding.cause or '')}")
    if finding.mend is not None:
        typer.echo(f"  {printable(finding.mend)}")
