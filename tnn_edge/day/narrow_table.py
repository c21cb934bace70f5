"""The table of a contest on a terminal that is too narrow for it: turned, so that no figure is cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from tnn_edge.day.table import HEADINGS
from tnn_edge.printable import printable

__all__ = ["fits", "turned_tables"]

_FRAME_COLUMNS = 3
"""Of each column: a line and two blanks; one line more ends the table."""


def fits(rows: Sequence[Sequence[str]], width: int) -> bool:
    """Whether the table of these rows, with its headings, has room in `width` columns."""
    return _width(list(zip(HEADINGS, *rows, strict=True))) <= width


def turned_tables(rows: Sequence[Sequence[str]], width: int) -> Iterator[Table]:
    """The rows as columns, one line for each figure; as many columns in each table as have room, at least one."""
    figures = ("", *HEADINGS[1:])
    columns: list[Sequence[str]] = []
    for row in rows:
        if columns and _width([figures, *columns, row]) > width:
            yield _table([figures, *columns])
            columns = []
        columns.append(row)
    yield _table([figures, *columns])


def _width(columns: Sequence[Sequence[str]]) -> int:
    return 1 + sum(_FRAME_COLUMNS + max(cell_len(printable(cell)) for cell in column) for column in columns)


def _table(columns: Sequence[Sequence[str]]) -> Table:
    table = Table()
    for i, (heading, *_) in enumerate(columns):
        table.add_column(Text(printable(heading)), justify="left" if i == 0 else "right", overflow="fold")
    for figures in zip(*(column[1:] for column in columns), strict=True):
        table.add_row(*(Text(figure) for figure in figures))
    return table
