"""`tnn-edge policy`: check a policy file, and show what it answers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tnn_edge.cli.options import JsonOption, print_json, print_table
from tnn_edge.errors import InputError
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from tnn_edge.control import Explanation

__all__ = ["check", "explain"]

PolicyArgument = Annotated[Path, typer.Argument(metavar="FILE", help="A policy file.", show_default=False)]


def check(file: PolicyArgument) -> None:
    """Check a policy file; each fault is told with file, line, key and a way out."""
    from tnn_edge.control import read_policy

    policy = read_policy(file)
    reads = ", ".join(sorted(policy.signals)) or "no signal"
    typer.echo(f"{printable(str(file))}: right")
    typer.echo(f"reads {reads}; where it lacks one it needs, u = {policy.settings.unknown_u:g}")


def explain(
    file: PolicyArgument,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw it, finer than the table.")] = None,
    held: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="SIGNAL=VALUE",
            help="Hold another signal at a number, true, false or unknown; repeatable. Example: --set hour=2",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show u over state of charge and light, and which rule sets it.

    Every cell is a device of its own without a past: hysteresis has not begun to hold, nothing dwells or slews.
    """
    import numpy as np

    from tnn_edge.control import explain_policy, read_policy
    from tnn_edge.control.explain_plot import FINE_LUX, FINE_SOC, draw_png
    from tnn_edge.picture_file import check_can_draw, write_picture

    policy = read_policy(file)
    signals = dict(map(_parse_signal, held or ()))
    if png is not None:
        check_can_draw(png)
    coarse = explain_policy(policy, soc=np.arange(11) / 10, lux=10.0 ** np.arange(-1, 6), held=signals)
    if as_json:
        print_json(_as_json(coarse))
    else:
        _print_grid(coarse, title=f"{file}: throttle u, and what sets it")
    if png is not None:
        picture = draw_png(
            explain_policy(policy, soc=FINE_SOC, lux=FINE_LUX, held=signals),
            title=f"{file.name}: throttle u, and what sets it",
        )
        write_picture(png, picture)
        typer.echo(f"drawn: {printable(str(png))}", err=as_json)


def _parse_signal(text: str) -> tuple[str, float]:
    name, equals, value = text.partition("=")
    words = {"unknown": math.nan, "true": 1.0, "false": 0.0}
    try:
        if not equals:
            raise ValueError(text)
        return name.strip(), words[value] if value in words else float(value)
    except ValueError as err:
        raise InputError(f"--set wants SIGNAL=VALUE with a number, true, false or unknown, got {text!r}") from err


def _print_grid(explanation: Explanation, *, title: str) -> None:
    letters = explanation.letters()
    rows = [
        [f"{soc:.0%}", *(f"{u:.2f} {letters[int(code)]}" for u, code in zip(us, codes, strict=True))]
        for soc, us, codes in zip(explanation.soc, explanation.u, explanation.reason, strict=True)
    ]
    print_table(["SoC \\ lux", *(f"{lux:g}" for lux in explanation.lux)], rows[::-1], title=title)
    for code, letter in letters.items():
        typer.echo(f"  {letter}  {printable(explanation.reasons[code])}")
    typer.echo(f"Held: {explanation.held_text()}. Change one with --set.")


def _as_json(explanation: Explanation) -> dict[str, Any]:
    return {
        "soc": explanation.soc.tolist(),
        "lux": explanation.lux.tolist(),
        "held": {name: None if math.isnan(value) else value for name, value in explanation.held.items()},
        "u": explanation.u.tolist(),
        "reason": [[explanation.reasons[code] for code in row] for row in explanation.reason],
    }
