"""The picture of comparisons: latency against u, and memory against latency, a row for each comparison."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from export.peers.comparison import Comparison, Peer
from export.peers.telling import where
from export.peers.ways import LABELS, OURS
from tnn_edge.picture_file import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["draw_peers_png"]

_ROW_INCHES = 4.2
_MARKERS = "osD^v<>PXp"


def draw_peers_png(comparisons: Sequence[Comparison]) -> bytes:
    """Draw comparisons of the same ways.

    Left: latency at each u. Right: resident memory over latency, a marker for each u, larger for a larger one; of two
    markers of one size, the one further left and further down is faster and smaller.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(12.0, _ROW_INCHES * len(comparisons) + 0.9)
    grid = figure.subplots(len(comparisons), 2, squeeze=False)
    for (latency, memory), comparison in zip(grid, comparisons, strict=True):
        for peer in comparison.peers:
            if peer.unavailable is None:
                _draw(latency, memory, peer)
        latency.set_title(where(comparison), parse_math=False)  # a name is a name, whatever its signs
        latency.set(xlabel="u", ylabel="latency p50 [ms]", yscale="log")
        memory.set(xlabel="latency p50 [ms]", ylabel="resident above the interpreter [MB]", xscale="log", yscale="log")
        memory.set_title("left and down is better; larger marker, larger u")
        for axes in (latency, memory):
            axes.grid(alpha=0.3, which="both")
            _write_plain_numbers(axes.yaxis)
            axes.spines[["top", "right"]].set_visible(False)
        _write_plain_numbers(memory.xaxis)
    entries: dict[str, Any] = {}
    for axes in grid[:, 0]:
        entries |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(entries.values(), entries.keys(), loc="outside lower center", ncols=5, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _write_plain_numbers(axis: Axis) -> None:
    """20, not 2 x 10^1."""
    from matplotlib.ticker import LogFormatter

    axis.set_major_formatter(LogFormatter())
    axis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))


def _draw(latency: Axes, memory: Axes, peer: Peer) -> None:
    order = list(LABELS).index(peer.name)
    is_ours = peer.name == OURS
    colour = "black" if is_ours else f"C{order - 1}"
    width, zorder = (2.6, 3) if is_ours else (1.3, 2)
    milliseconds = [point.latency_p50_ms for point in peer.points]
    megabytes = [point.resident_mb for point in peer.points]
    marker = _MARKERS[order % len(_MARKERS)]
    latency.plot(
        [point.u for point in peer.points], milliseconds, color=colour, marker=marker, markersize=5.0,
        linewidth=width, zorder=zorder, label=LABELS[peer.name],
    )  # fmt: skip
    memory.plot(milliseconds, megabytes, color=colour, linewidth=width, zorder=zorder)
    sizes = [15.0 + 75.0 * point.u for point in peer.points]
    memory.scatter(milliseconds, megabytes, s=sizes, color=colour, marker=marker, zorder=zorder + 1)
