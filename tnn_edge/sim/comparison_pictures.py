"""The curves of a comparison, as SVG that is readable on light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from tnn_edge.html_page import figure_svg
from tnn_edge.picture_file import new_figure
from tnn_edge.sim.comparison import Comparison
from tnn_edge.sim.playing import Course

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_darkest_days", "draw_fleet", "draw_year"]

Floats = npt.NDArray[np.float64]

_COLOURS = ("#1c7ed6", "#e8590c", "#2b8a3e", "#9c36b5", "#d69e00", "#c2255c", "#0b7285")
_OPTIMUM = "#868e96"
_LIGHT = "#e67700"

_DETAIL_DAYS = 7


def draw_year(comparison: Comparison) -> bytes:
    """State of charge, u, events answered right and light, day by day."""
    per_day = _per_day(comparison)
    days = np.arange(comparison.n_days) + 0.5
    figure, (charge, dial, right, light) = _panels(4)
    events = comparison.events_per_h.reshape(-1, per_day).sum(axis=1) * comparison.traces.step_s / 3600.0
    for name, colour, course in _courses(comparison):
        soc = 100.0 * course.soc[:, 0].reshape(-1, per_day)
        charge.fill_between(days, soc.min(axis=1), soc.max(axis=1), color=colour, alpha=0.15, linewidth=0.0)
        charge.plot(days, soc.mean(axis=1), color=colour, linewidth=1.2, label=name)
        on = course.on_share[:, 0].reshape(-1, per_day)
        u = (course.u[:, 0].reshape(-1, per_day) * on).sum(axis=1) / np.maximum(on.sum(axis=1), 1e-9)
        dial.plot(days, np.where(on.any(axis=1), u, np.nan), color=colour, linewidth=1.2)
        share = 100.0 * course.right[:, 0].reshape(-1, per_day).sum(axis=1) / np.maximum(events, 1e-9)
        right.plot(days, share, color=colour, linewidth=1.2)
    sun = comparison.traces.irradiance_w_m2[0].reshape(-1, per_day).sum(axis=1) * comparison.traces.step_s / 3.6e6
    light.fill_between(days, 0.0, sun, color=_LIGHT, alpha=0.5, linewidth=0.0)
    charge.set_ylabel("charge, %")
    charge.set_ylim(-2, 102)
    dial.set_ylabel("mean u")
    dial.set_ylim(-0.03, 1.03)
    right.set_ylabel("right, %")
    light.set_ylabel("sun, kWh/m²")
    light.set_xlabel("day")
    light.set_xlim(0, comparison.n_days)
    _legend(figure, charge)
    return figure_svg(figure)


def draw_darkest_days(comparison: Comparison) -> bytes:
    """The days with the least sun, step by step: state of charge, u and light."""
    per_day = _per_day(comparison)
    sun = comparison.traces.irradiance_w_m2[0].reshape(-1, per_day).sum(axis=1)
    n = min(_DETAIL_DAYS, comparison.n_days)
    first = int(np.convolve(sun, np.ones(n), "valid").argmin())
    steps = slice(first * per_day, (first + n) * per_day)
    days = first + (np.arange(n * per_day) + 0.5) / per_day
    figure, (charge, dial, light) = _panels(3)
    for name, colour, course in _courses(comparison):
        charge.plot(days, 100.0 * course.soc[steps, 0], color=colour, linewidth=1.2, label=name)
        is_on = course.on_share[steps, 0] > 0.0
        dial.plot(days, np.where(is_on, course.u[steps, 0], np.nan), color=colour, linewidth=1.0, drawstyle="steps-mid")
    light.semilogy(days, comparison.traces.lux[0, steps], color=_LIGHT, linewidth=1.2)
    charge.set_ylabel("charge, %")
    charge.set_ylim(-2, 102)
    dial.set_ylabel("u")
    dial.set_ylim(-0.03, 1.03)
    light.set_ylabel("lux")
    light.set_xlabel("day")
    light.set_xlim(first, first + n)
    _legend(figure, charge)
    return figure_svg(figure)


def draw_fleet(comparison: Comparison) -> bytes:
    """Over the devices of a fleet: share of events answered right, and hours without power."""
    figure = new_figure(9.0, 3.2)
    right, dark = figure.subplots(1, 2)
    shares = {name: 100.0 * p.outcome.right / p.outcome.events for name, p in comparison.played.items()}
    hours = {name: p.outcome.hours_down for name, p in comparison.played.items()}
    for axes, values, label in ((right, shares, "events answered right, %"), (dark, hours, "hours without power")):
        low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
        bins = np.linspace(low, high if high > low else low + 1.0, 41)
        for (name, row), colour in zip(values.items(), _COLOURS * len(values), strict=False):
            axes.hist(row, bins=bins, color=colour, alpha=0.5, label=name)
        axes.set_xlabel(label)
        axes.set_ylabel("devices")
        _plain(axes)
    _legend(figure, right)
    return figure_svg(figure)


def _per_day(comparison: Comparison) -> int:
    return comparison.traces.n_steps // comparison.n_days


def _courses(comparison: Comparison) -> Iterator[tuple[str, str, Course]]:
    """Name, colour and course of each policy, and of the optimum."""
    for i, (name, played) in enumerate(comparison.played.items()):
        yield name, _COLOURS[i % len(_COLOURS)], played.course
    yield "optimum in hindsight", _OPTIMUM, comparison.optimum.course


def _panels(n: int) -> tuple[Figure, list[Axes]]:
    figure = new_figure(9.0, 1.9 * n)
    axes = list(figure.subplots(n, 1, sharex=True))
    for each in axes:
        _plain(each)
    return figure, axes


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)


def _legend(figure: Figure, axes: Axes) -> None:
    legend = figure.legend(*axes.get_legend_handles_labels(), loc="outside upper left", ncols=4, frameon=False)
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name is a name, whatever its signs
