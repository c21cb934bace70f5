"""The picture of what a policy answers: u as colour over light and state of charge, with the area of every rule."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from tnn_edge.control.explain import Explanation
from tnn_edge.light_axis import set_light_axis
from tnn_edge.picture_file import new_figure

__all__ = ["FINE_LUX", "FINE_SOC", "draw_png"]

Bools = npt.NDArray[np.bool_]

FINE_SOC = np.linspace(0.0, 1.0, 201)
FINE_LUX = np.geomspace(0.05, 200_000.0, 301)

_CHARACTERS = 90
"""As many letters of a label fit into the picture's width."""


def draw_png(explanation: Explanation, *, title: str) -> bytes:
    """Draw an explanation whose axes are `FINE_SOC` and `FINE_LUX`, or as fine.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(10.0, 6.0, dpi=120)
    from matplotlib.patheffects import withStroke

    axes = figure.subplots()
    percent = 100.0 * explanation.soc
    mesh = axes.pcolormesh(
        explanation.lux, percent, explanation.u, vmin=0.0, vmax=1.0, cmap="viridis", shading="nearest"
    )
    figure.colorbar(mesh, ax=axes, label="throttle u", pad=0.02)
    outline = [withStroke(linewidth=2.5, foreground="black")]
    for code, letter in explanation.letters().items():
        area = explanation.reason == code
        if not area.all():
            axes.contour(explanation.lux, percent, area.astype(float), levels=[0.5], colors="white", linewidths=1.2)
        name = f"{letter}  {explanation.reasons[code]}"
        for piece in _pieces(area):
            row, column = _innermost(piece)
            axes.text(
                explanation.lux[column],
                percent[row],
                name if len(name) <= _CHARACTERS * _width(piece[row], column) else letter,
                color="white",
                fontsize=11,
                fontweight="bold",
                ha="center",
                va="center",
                path_effects=outline,
                parse_math=False,  # a name is a name, whatever its signs
            )
        low, high = explanation.u[area].min(), explanation.u[area].max()
        span = f"{low:.2f}" if low == high else f"{low:.2f} to {high:.2f}"
        axes.plot([], [], " ", label=f"{name}: u {span}")
    set_light_axis(axes, explanation.lux[0], explanation.lux[-1])
    axes.set_ylabel("state of charge [%]")
    figure.suptitle(title, fontweight="bold", parse_math=False)
    axes.set_title(f"held: {explanation.held_text()}; no past: nothing latched, dwelling or slewing", fontsize=8)
    longest = max(len(text) for text in axes.get_legend_handles_labels()[1])
    n_columns = min(4, max(1, _CHARACTERS // longest))
    legend = figure.legend(loc="outside lower center", frameon=False, ncols=n_columns, handlelength=0)
    for text in legend.get_texts():
        text.set_parse_math(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _pieces(area: Bools) -> Iterator[Bools]:
    """The connected pieces of an area."""
    while area.any():
        grown = np.zeros_like(area)
        grown[np.unravel_index(area.argmax(), area.shape)] = True
        piece = np.zeros_like(area)
        while (grown != piece).any():
            piece = grown
            grown = area & np.logical_or.reduce(_shifted(piece))
        yield piece
        area = area & ~piece


def _innermost(area: Bools) -> tuple[int, int]:
    """Row and column of a cell as far from the edge of its area as any, and near the middle of these."""
    last = area
    while area.any():
        last = area
        area = np.logical_and.reduce(_shifted(area))
    rows, columns = np.nonzero(last)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return int(rows[nearest]), int(columns[nearest])


def _shifted(area: Bools) -> list[Bools]:
    """The area, and the same one step up, down, left and right."""
    padded = np.pad(area, 1)
    return [area, padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]]


def _width(row: Bools, column: int) -> float:
    """Share of the picture's width that is the area's around a cell."""
    gaps = np.nonzero(~row)[0]
    left = gaps[gaps < column].max(initial=-1)
    right = gaps[gaps > column].min(initial=len(row))
    return float(right - left - 1) / len(row)
