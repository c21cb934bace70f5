"""The page of a camera's run, drawn from its database."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tnn_edge.camera.database import open_results
from tnn_edge.errors import InputError
from tnn_edge.html_page import Page, figure_svg
from tnn_edge.html_page import write_page as write_html
from tnn_edge.picture_file import new_figure
from tnn_edge.printable import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["write_page"]

_BINS = 600
"""Points of a curve at most: a month of frames is drawn as quickly as a minute."""

_MANY_CLASSES = 20

_CURVES = """
SELECT frame * :n_bins / :n_frames AS bin, min(frame) AS frame, avg(f.u) AS u, avg(f.confidence) AS confidence,
    avg(ms) AS ms, max(age_ms) AS age_ms, avg(d.soc) AS soc, avg(d.lux) AS lux, avg(d.temperature_c) AS temperature_c
FROM frames AS f LEFT JOIN decisions AS d USING (run, decision)
WHERE run = :run GROUP BY bin ORDER BY bin
"""
_REASONS = """
SELECT reason, count(*) AS n, avg(f.u) AS u, avg(macs) / 1e6 AS mmac, avg(ms) AS ms
FROM frames AS f LEFT JOIN decisions AS d USING (run, decision)
WHERE run = :run GROUP BY reason ORDER BY n DESC
"""
_LOWERED = "SELECT count(*) AS n FROM frames WHERE run = :run AND point_u < asked_u"
_FALLBACKS = (
    "SELECT fallback, min(frame) AS first FROM frames WHERE run = :run AND fallback IS NOT NULL GROUP BY fallback "
    "ORDER BY first"
)
_CLASSES = """
SELECT top1, count(*) AS n, avg(confidence) AS confidence FROM frames
WHERE run = :run AND top1 IS NOT NULL GROUP BY top1 ORDER BY n DESC
"""
_ERRORS = (
    "SELECT error, count(*) AS n, min(frame) AS first FROM frames WHERE run = :run AND error IS NOT NULL GROUP BY error"
)


def write_page(database: Path, path: Path, *, run: int | None = None) -> int:
    """Write the page of a run; it hangs on the database alone.

    Args:
        database: result database.
        path: HTML file; one that is there is replaced in one step.
        run: number of the run; None for the last.

    Returns:
        The run's number.

    Raises:
        InputError: there is no such database, or no such run in it.
        TnnEdgeError: the page could not be written.
    """
    with open_results(database) as connection:
        row = _run(connection, database, run)
        page = _page(connection, row)
    write_html(path, page)
    return int(row["id"])


def _run(connection: sqlite3.Connection, database: Path, run: int | None) -> sqlite3.Row:
    runs = connection.execute("SELECT * FROM runs ORDER BY id").fetchall()
    chosen = [row for row in runs if run is None or row["id"] == run]
    if not chosen:
        there = f"there are {runs[0]['id']} to {runs[-1]['id']}" if runs else "there is none"
        raise InputError(f"{database} has no run{'' if run is None else f' {run}'}; {there}")
    last: sqlite3.Row = chosen[-1]
    return last


def _page(connection: sqlite3.Connection, run: sqlite3.Row) -> Page:
    def ask(query: str, **values: Any) -> list[sqlite3.Row]:
        return connection.execute(query, {"run": run["id"], **values}).fetchall()

    (span,) = ask("SELECT count(*) AS n, max(frame) + 1 AS n_frames, min(time) AS first, max(time) AS last "
                  "FROM frames WHERE run = :run")  # fmt: skip
    page = Page(printable(f"{run['bundle']} on {run['source']}"), _summary(run, span))
    if run["captured"] is not None:
        counts = [str(run[name]) for name in ("captured", "processed", "dropped", "failed")]
        page.add_heading("Every captured frame")
        page.add_table(["captured", "processed", "dropped", "failed"], [counts])
    for fallback in ask(_FALLBACKS):
        page.add_text(f"The CPU computed from frame {fallback['first']} on: {printable(fallback['fallback'])}")
    if span["n"]:
        curves = ask(_CURVES, n_bins=_BINS, n_frames=span["n_frames"])
        page.add_heading("The dial, and what it hung on")
        page.add_picture(
            figure_svg(_figure(curves)),
            alt="throttle, charge, confidence, light and milliseconds over the frames",
            caption=f"Means over {len(curves)} stretches of frames; the age is the largest in each.",
        )
        (lowered,) = ask(_LOWERED)
        if lowered["n"]:
            page.add_text(
                f"{lowered['n']} frames were answered by a lower operating point than asked for, which was not in "
                "memory."
            )
        page.add_heading("Who set the dial")
        page.add_table(
            ["reason", "frames", "mean u", "mean MMAC", "mean ms"], [_reason_cells(r) for r in ask(_REASONS)]
        )
    if classes := ask(_CLASSES):
        page.add_heading("Answers")
        shown = [[printable(r["top1"]), str(r["n"]), _number(r["confidence"], 3)] for r in classes[:_MANY_CLASSES]]
        page.add_table(["class", "frames", "mean confidence"], shown)
        if len(classes) > _MANY_CLASSES:
            page.add_text(f"and {len(classes) - _MANY_CLASSES} classes more, each less often")
    if errors := ask(_ERRORS):
        page.add_heading("Failures")
        page.add_table(
            ["error", "frames", "first"], [[printable(r["error"]), str(r["n"]), str(r["first"])] for r in errors]
        )
    page.add_file("The configuration", run["config"])
    return page


def _summary(run: sqlite3.Row, span: sqlite3.Row) -> str:
    if run["ended"] is None:
        ending = "It has not ended, or was cut off."
    elif run["ended_by"] == "end":
        ending = f"It ended at {_clock(run['ended'])} with its source."
    else:
        ending = f"It ended at {_clock(run['ended'])}: {printable(run['ended_by'] or 'nobody says why')}."
    between = f", captured from {_clock(span['first'])} to {_clock(span['last'])}" if span["n"] else ""
    return f"Run {run['id']}, started at {_clock(run['started'])}: {span['n']} records{between}. {ending}"


def _clock(time: str) -> str:
    return f"{time[:19].replace('T', ' ')} UTC"


def _reason_cells(row: sqlite3.Row) -> list[str]:
    costs = [_number(row[name], 2) for name in ("mmac", "ms")]
    return [printable(row["reason"] or "-"), str(row["n"]), _number(row["u"], 3), *costs]


def _number(value: float | None, n_digits: int) -> str:
    return "-" if value is None else f"{value:.{n_digits}f}"


def _figure(curves: Sequence[sqlite3.Row]) -> Figure:
    from matplotlib.ticker import NullFormatter

    rows = ["shares", "light", "time"] if any(row["lux"] is not None for row in curves) else ["shares", "time"]
    figure = new_figure(10.0, 1.2 + 1.9 * len(rows))
    axes: dict[str, Axes] = dict(zip(rows, figure.subplots(len(rows), 1, sharex=True), strict=True))
    _plot(axes["shares"], curves, {"u": "throttle u", "soc": "state of charge", "confidence": "confidence"})
    axes["shares"].set(ylabel="share", ylim=(-0.03, 1.03))
    if "light" in axes:
        _plot(axes["light"], curves, {"lux": "light"})
        axes["light"].set(ylabel="lux", yscale=_scale(curves, "lux"))
        axes["light"].yaxis.set_minor_formatter(NullFormatter())
    _plot(axes["time"], curves, {"ms": "in the engine", "age_ms": "age of the result"})
    axes["time"].set(ylabel="ms", yscale=_scale(curves, "ms", "age_ms"), xlabel="frame")
    return figure


def _scale(curves: Sequence[sqlite3.Row], *names: str) -> str:
    """Logarithmic, where there is anything above 0."""
    return "log" if any((row[name] or 0.0) > 0.0 for row in curves for name in names) else "linear"


def _plot(axes: Axes, curves: Sequence[sqlite3.Row], names: dict[str, str]) -> None:
    frames = [row["frame"] for row in curves]
    for name, label in names.items():
        values = [row[name] for row in curves]
        if any(value is not None for value in values):
            axes.plot(frames, [float("nan") if v is None else v for v in values], label=label, linewidth=1.4)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
