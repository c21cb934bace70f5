"""The picture of a ranking: the share of the optimum of every policy, a panel for each setting."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from tnn_edge.picture_file import new_figure
from train.ranking.record import Ranked, Ranking
from train.ranking.telling import by_score

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_ranking_png"]

_COLUMNS = 3
_LEAST = 0.3


def draw_ranking_png(ranking: Ranking) -> bytes:
    """Draw the settings whose optima are known, in rows of three.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    known = [ranked for ranked in ranking.settings if ranked.optima]
    n_rows = -(-len(known) // _COLUMNS)
    figure = new_figure(12.0, 2.6 * n_rows + 0.3)
    grid = figure.subplots(n_rows, _COLUMNS, sharex=True, squeeze=False).flatten()
    for axes, ranked in zip(grid, known, strict=False):
        _draw(axes, ranked)
    for axes in grid[len(known) :]:
        axes.set_visible(False)
    for axes in grid[max(len(known) - _COLUMNS, 0) : len(known)]:
        axes.set_xlabel("share of the optimum, %")
        axes.tick_params(labelbottom=True)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _draw(axes: Axes, ranked: Ranked) -> None:
    scores = by_score(ranked)[::-1]
    for place, (name, score) in enumerate(scores):
        colour = "C0" if name == "price" else "0.6"
        axes.barh(place, 100.0 * max(score.mean - _LEAST, 0.0), left=100.0 * _LEAST, color=colour, height=0.7)
        if score.mean > _LEAST:
            reach = [[100.0 * (score.mean - score.low)], [100.0 * (score.high - score.mean)]]
            axes.errorbar(100.0 * score.mean, place, xerr=reach, color="black", capsize=2.0, linewidth=1.0)
        axes.text(100.0 * _LEAST + 1.0, place, f"{100.0 * score.mean:.1f}", va="center", fontsize=8, color="black")
    axes.set_yticks(range(len(scores)), [name for name, _ in scores])
    axes.set_xlim(100.0 * _LEAST, 101.0)
    axes.axvline(100.0, color="black", linewidth=0.8)
    axes.set_title(ranked.title, fontsize=10, parse_math=False)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
