"""The curves of a contest, as SVG that is readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tnn_edge.day.scenes import DIM_LUX
from tnn_edge.day.table import label
from tnn_edge.html_page import figure_svg
from tnn_edge.picture_file import new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from tnn_edge.day.contest import Contest
    from tnn_edge.day.scenario import Scenario

__all__ = ["draw_accuracy", "draw_battery", "draw_light", "draw_throttle"]

Floats = npt.NDArray[np.float64]

_LINES = ("#1c7ed6", "#e8590c", "#868e96", "#d69e00", "#9c36b5", "#2b8a3e", "#c2255c")
"""Colours of policies, first the one that was shown."""

_BANDS = ("#4dabf7", "#ffd43b", "#63e6be", "#ff922b", "#5f3dc4", "#9775fa", "#a9e34b", "#f783ac")
"""Colours of reasons."""


def draw_battery(contest: Contest, scenario: Scenario) -> bytes:
    """State of charge of each policy."""
    with _drawing(contest, scenario, height=2.9) as drawing:
        legend = []
        for name, colour, entry in _entries(contest):
            soc = np.concatenate([[entry.life.start_soc], entry.life.soc])
            (line,) = drawing.axes.plot(drawing.edges_h, 100.0 * soc, color=colour, linewidth=1.8)
            legend.append((line, name))
        drawing.axes.set_ylim(-2, 102)
        drawing.axes.set_ylabel("state of charge, %")
        drawing.add_legend(legend)
    return drawing.svg


def draw_throttle(contest: Contest, scenario: Scenario) -> bytes:
    """U of each policy, over bands for the reasons of the first."""
    from matplotlib.patches import Patch

    with _drawing(contest, scenario, height=3.3, has_night=False) as drawing:
        (name, colour, first), *others = _entries(contest)
        reasons = list(dict.fromkeys(first.life.reason))
        colours = {reason: _BANDS[i % len(_BANDS)] for i, reason in enumerate(r for r in reasons if r is not None)}
        colours[None] = "black"
        for reason, start, end in _stretches(first.life.reason):
            drawing.add_band(start, end, colours[reason], 0.2)
        lines = [(drawing.add_stairs(entry.life.u, line, 1.0), other) for other, line, entry in others]
        lines.insert(0, (drawing.add_stairs(first.life.u, colour, 2.0), name))  # on top of the others
        drawing.axes.set_ylim(-0.03, 1.03)
        drawing.axes.set_ylabel("throttle u")
        bands = [
            (Patch(color=colours[reason], alpha=0.35), "no power" if reason is None else reason) for reason in reasons
        ]
        drawing.add_legend([*lines, *bands])
    return drawing.svg


def draw_light(contest: Contest, scenario: Scenario) -> bytes:
    """Light, as it is and as the first policy's meter reads it, and the power that the panel could give."""
    from matplotlib.ticker import NullFormatter

    with _drawing(contest, scenario, height=2.9) as drawing:
        first = next(iter(contest.policies.values())).life
        (light,) = drawing.axes.semilogy(drawing.middle_h, contest.scenes.lux, color="#e67700", linewidth=1.8)
        (read,) = drawing.axes.plot(drawing.middle_h, first.observed_lux, ".", color="black", markersize=2.5, alpha=0.6)
        drawing.axes.set_ylabel("lux")
        drawing.axes.yaxis.set_major_formatter(lambda lux, _position: f"{lux:,g}")
        drawing.axes.yaxis.set_minor_formatter(NullFormatter())
        panel = drawing.axes.twinx()
        panel_w = first.panel_wh * 3600.0 / scenario.period_s
        sun = panel.fill_between(drawing.middle_h, panel_w, color="#2b8a3e", alpha=0.3, linewidth=0)
        panel.set_ylabel("panel, W")
        panel.set_ylim(0, max(1.0, 1.6 * float(panel_w.max())))
        panel.spines["top"].set_visible(False)
        drawing.add_legend([(light, "light"), (read, "as read from the pictures"), (sun, "panel")])
    return drawing.svg


def draw_accuracy(contest: Contest, scenario: Scenario) -> bytes:
    """Share of frames that are seen and right, averaged over a while."""
    window_h = 2.0 if scenario.n_days == 1 else 6.0
    n_window = max(1, round(window_h * 3600.0 / scenario.period_s))
    with _drawing(contest, scenario, height=2.9) as drawing:
        legend = []
        for name, colour, entry in _entries(contest):
            right = _rolling(entry.life.on_share * entry.life.right_share, n_window)
            (line,) = drawing.axes.plot(drawing.middle_h, 100.0 * right, color=colour, linewidth=1.8)
            legend.append((line, name))
        drawing.axes.set_ylim(-2, 102)
        drawing.axes.set_ylabel(f"seen and right, %\n(over {window_h:g} h)")
        drawing.add_legend(legend)
    return drawing.svg


@contextmanager
def _drawing(contest: Contest, scenario: Scenario, *, height: float, has_night: bool = True) -> Iterator[_Drawing]:
    """A drawing to add to; on leaving the block its `svg` holds the picture."""
    import matplotlib as mpl

    # A name is a name, whatever its signs: no formulas between dollars.
    with mpl.rc_context({"text.parse_math": False, "font.size": 9.5}):
        drawing = _Drawing(scenario, height)
        if has_night:
            for is_night, start, end in _stretches((contest.scenes.lux < DIM_LUX).tolist()):
                if is_night:
                    drawing.add_band(start, end, "black", 0.07)
        yield drawing
        drawing.svg = figure_svg(drawing.figure)


class _Drawing:
    """One pair of axes over the time of a run."""

    def __init__(self, scenario: Scenario, height: float) -> None:
        self.svg = b""
        self.edges_h = scenario.start_hour + np.arange(scenario.n_periods + 1) * scenario.period_s / 3600.0
        self.middle_h = (self.edges_h[:-1] + self.edges_h[1:]) / 2.0
        self.figure = new_figure(10.4, height)
        self.axes: Axes = self.figure.subplots()
        self.axes.spines[["top", "right"]].set_visible(False)
        self.axes.grid(axis="y", alpha=0.3)
        self.axes.set_xlim(self.edges_h[0], self.edges_h[-1])
        self._mark_hours(scenario.n_days)

    def add_band(self, start: int, end: int, colour: str, alpha: float) -> None:
        """Shade the periods from `start` to before `end`."""
        self.axes.axvspan(self.edges_h[start], self.edges_h[end], color=colour, alpha=alpha, linewidth=0)

    def add_stairs(self, values: Floats, colour: str, width: float) -> Any:
        """Draw a value for each period; a period of NaN stays empty."""
        return self.axes.stairs(values, self.edges_h, baseline=None, color=colour, linewidth=width)

    def add_legend(self, entries: list[tuple[Any, str]]) -> None:
        """Say what is what, above the axes."""
        handles = [handle for handle, _ in entries]
        names = [f" {name}" if name.startswith("_") else name for _, name in entries]  # else matplotlib 3.8 hides it
        self.figure.legend(
            handles, names, loc="outside upper left", ncols=5, frameon=False, fontsize=9, handlelength=1.4,
            columnspacing=1.6,
        )  # fmt: skip

    def _mark_hours(self, n_days: int) -> None:
        step = 3 if n_days == 1 else 12 if n_days <= 7 else 24 * -(-n_days // 14)
        first = int(np.ceil(self.edges_h[0] / step)) * step
        ticks = np.arange(first, self.edges_h[-1] + 1e-9, step)
        self.axes.set_xticks(ticks, [_clock(hour, n_days) for hour in ticks])


def _clock(hour: float, n_days: int) -> str:
    if n_days == 1:
        return f"{int(hour) % 24}:00"
    return f"day {int(hour) // 24 + 1}" if int(hour) % 24 == 0 else f"{int(hour) % 24}:00"


def _entries(contest: Contest) -> Iterator[tuple[str, str, Any]]:
    """Label, colour and run of each row that has one."""
    for (name, entry), line in zip(contest.rows.items(), cycle(_LINES), strict=False):
        if entry is not None:
            yield label(name, entry), line, entry


def _stretches(values: list[Any]) -> Iterator[tuple[Any, int, int]]:
    """Each value with the first index at which it stands and the index after the last, in order."""
    start = 0
    for i in range(1, len(values) + 1):
        if i == len(values) or values[i] != values[start]:
            yield values[start], start, i
            start = i


def _rolling(values: Floats, n: int) -> Floats:
    """Mean over n values around each, over fewer at the ends."""
    ones = np.ones(n)
    return np.asarray(np.convolve(values, ones, "same") / np.convolve(np.ones_like(values), ones, "same"))
