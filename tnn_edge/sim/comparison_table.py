"""A comparison as rows to read, and as data."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.sim.comparison import Comparison
from tnn_edge.sim.playing import Outcome

__all__ = ["FLEET_HEADINGS", "HEADINGS", "as_json", "fleet_rows", "notes", "rows"]

HEADINGS = ["policy", "right", "of optimum", "brown-outs", "h dark", "mean u", "spilled kWh"]

_UNKNOWN = "-"

FLEET_HEADINGS = ["policy", "right: 5 %", "median", "95 %", "h dark: median", "95 %", "never dark"]


def rows(comparison: Comparison) -> list[list[str]]:
    """What each policy got on the first device, and at the end the optimum."""
    table = []
    for name, played in comparison.played.items():
        got, share = played.outcome, comparison.share_of_optimum(name)
        table.append(
            [
                name,
                _percent(got.right[0], got.events[0]),
                _UNKNOWN if share is None else f"{100.0 * share:.1f} %",
                f"{got.brown_outs[0]:.0f}",
                f"{got.hours_down[0]:.1f}",
                f"{got.mean_u[0]:.2f}",
                f"{got.spilled_wh[0] / 1000.0:.1f}",
            ]
        )
    optimum, course = comparison.optimum, comparison.optimum.course
    on = course.on_share.sum()
    events = next(iter(comparison.played.values())).outcome.events[0]
    table.append(
        [
            "optimum in hindsight",
            _percent(course.right.sum(), events),
            _UNKNOWN if optimum.gap is None else f"100 to {100.0 * (1.0 + optimum.gap):.1f} %",
            str(optimum.brown_outs),
            f"{(len(course.on_share) - on) * comparison.traces.step_s / 3600.0:.1f}",
            f"{(course.u * course.on_share).sum() / max(on, 1.0):.2f}",
            "",
        ]
    )
    return table


def fleet_rows(comparison: Comparison) -> list[list[str]]:
    """How the devices of a fleet differ, for each policy."""
    table = []
    for name, played in comparison.played.items():
        got = played.outcome
        right = 100.0 * np.percentile(got.right / np.maximum(got.events, 1e-9), [5, 50, 95])
        dark = np.percentile(got.hours_down, [50, 95])
        table.append(
            [
                name,
                *(f"{value:.1f} %" for value in right),
                *(f"{value:.1f}" for value in dark),
                f"{100.0 * np.mean(got.brown_outs == 0):.1f} %",
            ]
        )
    return table


def notes(comparison: Comparison) -> str:
    """What the columns mean."""
    gap = comparison.optimum.gap
    of_optimum = (
        f"; nothing gets more than {100.0 * (1.0 + gap):.1f} %."
        if gap is not None
        else ". That is not above 0 here, so there are no shares of it."
    )
    return (
        "All of it is modelled. right: share answered right of the events that full computing could answer. of "
        "optimum: events answered right less the cost of brown-outs, over what a plan attains that knows the future"
        + of_optimum
    )


def as_json(comparison: Comparison) -> dict[str, Any]:
    """The same as data, with every device."""
    optimum = comparison.optimum
    return {
        "days": comparison.n_days,
        "devices": comparison.n_devices,
        "period_s": comparison.traces.step_s,
        "site": comparison.traces.site,
        "optimum": {"attained": optimum.attained, "bound": optimum.bound, "brown_outs": optimum.brown_outs},
        "policies": {
            name: {"of_optimum": comparison.share_of_optimum(name), **_lists(played.outcome)}
            for name, played in comparison.played.items()
        },
    }


def _percent(right: float, events: float) -> str:
    return f"{100.0 * right / events:.1f} %" if events > 0.0 else _UNKNOWN


def _lists(outcome: Outcome) -> dict[str, list[float]]:
    columns: dict[str, npt.NDArray[np.float64]] = vars(outcome)
    return {name: np.round(values, 6).tolist() for name, values in columns.items()}
