"""The operating point that honours limits, against a plain search; and the nearest one where none does."""

from __future__ import annotations

import math
import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.profiles import cost, point, profile
from tnn_edge.bundle import OperatingPoint
from tnn_edge.errors import LimitError
from tnn_edge.runtime.cost_profile import Profile
from tnn_edge.runtime.limits import LimitedDial

POINTS = (point(0.0, 0.50), point(0.3, 0.80), point(0.6, 0.70), point(0.9, 0.90))
"""Not monotone: the third costs more than the second and knows less."""
PROFILE = profile([cost(0.0, 7.2, 10.0), cost(0.3, 9.0, 14.0), cost(0.6, 8.0, 12.0), cost(0.9, 20.0, 30.0)])
DIAL = LimitedDial(POINTS, PROFILE)

amounts = st.floats(0.001, 1000.0)
dials = st.lists(st.tuples(amounts, amounts, st.floats(0.0, 1.0)), min_size=1, max_size=8)


def made(rows: list[tuple[float, float, float]]) -> tuple[list[OperatingPoint], Profile]:
    """Operating points of (milliseconds, millijoules, accuracy)."""
    us = [i / len(rows) for i in range(len(rows))]
    points = [point(u, accuracy) for u, (_, _, accuracy) in zip(us, rows, strict=True)]
    return points, profile([cost(u, ms, mj) for u, (ms, mj, _) in zip(us, rows, strict=True)])


@pytest.mark.parametrize(
    ("limits", "u"),
    [
        ({"max_ms": 100.0}, 0.9),
        ({"max_ms": 9.0}, 0.3),
        ({"max_ms": 8.9}, 0.6),
        ({"max_mj": 13.0}, 0.6),
        ({"max_mj": math.inf}, 0.9),
        ({"max_ms": 9.0, "max_mj": 12.0}, 0.6),
        ({"min_accuracy": 0.6}, 0.6),
        ({"min_accuracy": 0.0}, 0.0),
        ({"min_accuracy": 0.75, "max_ms": 10.0}, 0.3),
        ({"min_accuracy": 0.75, "max_ms": 30.0}, 0.9),
    ],
)
def test_the_most_accurate_point_within_all_limits_is_chosen(limits: dict[str, float], u: float) -> None:
    assert DIAL.choose(**limits) is next(p for p in POINTS if p.u == u)


@given(dials, st.none() | amounts, st.none() | amounts, st.none() | st.floats(0.0, 1.0))
def test_the_choice_equals_a_plain_search(
    rows: list[tuple[float, float, float]], max_ms: float | None, max_mj: float | None, min_accuracy: float | None
) -> None:
    if max_ms is max_mj is min_accuracy is None:
        return
    points, measured = made(rows)
    fit = [
        i
        for i, (ms, mj, accuracy) in enumerate(rows)
        if (max_ms is None or ms <= max_ms)
        and (max_mj is None or mj <= max_mj)
        and (min_accuracy is None or accuracy >= min_accuracy)
    ]
    limits = {"max_ms": max_ms, "max_mj": max_mj, "min_accuracy": min_accuracy}
    if not fit:
        with pytest.raises(LimitError, match=r"^no operating point "):
            LimitedDial(points, measured).choose(**limits)
        return
    if max_ms is None and max_mj is None:
        best = min(fit, key=lambda i: (rows[i][1], i))
    else:
        best = max(fit, key=lambda i: (rows[i][2], i))
    assert LimitedDial(points, measured).choose(**limits) is points[best]


@given(dials, st.sampled_from(["max_ms", "max_mj", "min_accuracy"]))
def test_the_value_that_a_refusal_names_is_met_as_a_limit_by_the_point_that_it_names(
    rows: list[tuple[float, float, float]], name: str
) -> None:
    points, measured = made(rows)
    dial = LimitedDial(points, measured)
    too_much = 1.0 if name == "min_accuracy" else 1e-9
    try:
        dial.choose(**{name: too_much})
    except LimitError as err:
        found = re.search(r"the nearest is u=(\S+) with (?:an accuracy of )?(\d[\d.]*)", str(err))
        assert found is not None
        chosen = dial.choose(**{name: float(found[2])})
        column = ["max_ms", "max_mj", "min_accuracy"].index(name)
        best = (max if name == "min_accuracy" else min)(row[column] for row in rows)
        assert rows[points.index(chosen)][column] == pytest.approx(best, rel=1e-3)
    else:
        assert name == "min_accuracy" and max(row[2] for row in rows) == 1.0


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"max_ms": 5}, "takes at most 5 ms: the nearest is u=0 with 7.200 ms (p95)"),
        ({"max_mj": 9.5}, "takes at most 9.5 mJ: the nearest is u=0 with 10.00 mJ"),
        (
            {"min_accuracy": 0.95},
            "has an accuracy of at least 0.95: the nearest is u=0.9 with an accuracy of 0.9000",
        ),
        (
            {"max_ms": 8.5, "min_accuracy": 0.75},
            (
                "takes at most 8.5 ms and has an accuracy of at least 0.75: the nearest is u=0.3 with 9.000 ms (p95) "
                "where only max_ms gives way, or u=0.6 with an accuracy of 0.7000 where only min_accuracy gives way"
            ),
        ),
        (
            {"max_ms": 1, "max_mj": 11},
            (
                "takes at most 1 ms and takes at most 11 mJ: the nearest is u=0 with 7.200 ms (p95) "
                "where only max_ms gives way"
            ),
        ),
        (
            {"max_ms": 1, "min_accuracy": 0.99},
            (
                "takes at most 1 ms and has an accuracy of at least 0.99: the nearest is u=0 with 7.200 ms (p95), "
                "or u=0.9 with an accuracy of 0.9000"
            ),
        ),
    ],
)
def test_where_no_point_honours_the_limits_the_nearest_is_named(limits: dict[str, float], says: str) -> None:
    with pytest.raises(LimitError, match=f"^{re.escape('no operating point ' + says)}$"):
        DIAL.choose(**limits)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, -math.inf])
@pytest.mark.parametrize("name", ["max_ms", "max_mj"])
def test_a_cost_that_is_no_limit_is_refused(name: str, bad: float) -> None:
    with pytest.raises(LimitError, match=rf"^{name} must be above 0, got {bad:g}$"):
        DIAL.choose(**{name: bad})


@pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan, math.inf])
def test_an_accuracy_that_is_no_share_is_refused(bad: float) -> None:
    with pytest.raises(LimitError, match=rf"^min_accuracy must lie in \[0, 1\], got {bad:g}$"):
        DIAL.choose(min_accuracy=bad, max_ms=100.0)


def test_no_limit_is_refused() -> None:
    with pytest.raises(LimitError, match=r"^a limit is needed: max_ms, max_mj or min_accuracy$"):
        DIAL.choose()


@pytest.mark.parametrize(
    ("measured", "limits", "says"),
    [
        (None, {"max_ms": 5.0}, "max_ms needs a latency measured on this machine .*'tnn-edge profile B' measures it$"),
        (None, {"max_mj": 5.0}, "max_mj needs an energy measured on this machine .*'tnn-edge profile B' measures it$"),
        (profile([cost(p.u, 1.0) for p in POINTS]), {"max_mj": 5.0}, "max_mj needs an energy measured on this machine"),
    ],
)
def test_a_limit_on_what_was_not_measured_names_the_command(
    measured: Profile | None, limits: dict[str, Any], says: str
) -> None:
    with pytest.raises(LimitError, match=f"^{says}"):
        LimitedDial(POINTS, measured).choose(**limits)


def test_a_bundle_without_accuracies_has_no_accuracy_to_limit() -> None:
    with pytest.raises(LimitError, match=r"^min_accuracy needs accuracies, and the bundle holds none; export it again"):
        LimitedDial([point(0.0), point(0.5)], None).choose(min_accuracy=0.5)


def test_where_an_accuracy_is_unknown_the_largest_throttle_within_the_limits_is_chosen() -> None:
    points = [point(0.0, 0.9), point(0.3, 0.8), point(0.6)]
    dial = LimitedDial(points, profile([cost(0.0, 1.0), cost(0.3, 2.0), cost(0.6, 3.0)]))
    assert dial.choose(max_ms=10.0).u == 0.6
    assert dial.choose(max_ms=2.0).u == 0.3
    assert dial.choose(max_ms=10.0, min_accuracy=0.1).u == 0.3


def test_of_equally_accurate_points_the_largest_throttle_is_chosen() -> None:
    points = [point(0.0, 0.8), point(0.5, 0.8)]
    assert LimitedDial(points, profile([cost(0.0, 1.0), cost(0.5, 2.0)])).choose(max_ms=3.0).u == 0.5


def test_a_point_whose_energy_is_unknown_meets_no_limit_on_energy() -> None:
    points = [point(0.0, 0.8), point(0.5, 0.9)]
    dial = LimitedDial(points, profile([cost(0.0, 1.0, 5.0), cost(0.5, 2.0, None)]))
    assert dial.choose(max_mj=1e6).u == 0.0
    with pytest.raises(LimitError, match=r"the nearest is u=0 with 5\.000 mJ$"):
        dial.choose(max_mj=1.0)


@pytest.mark.parametrize(
    ("measured", "u"),
    [
        (profile([cost(0.0, 9.0, 3.0), cost(0.3, 8.0, 2.0), cost(0.6, 1.0, 4.0)]), 0.3),
        (profile([cost(0.0, 9.0, 3.0), cost(0.3, 8.0, None), cost(0.6, 1.0, 4.0)]), 0.6),
        (None, 0.0),
    ],
)
def test_an_accuracy_alone_is_had_for_the_least_energy_or_time_or_macs(measured: Profile | None, u: float) -> None:
    points = [point(0.0, 0.9, macs=1), point(0.3, 0.9, macs=2), point(0.6, 0.9, macs=3)]
    assert LimitedDial(points, measured).choose(min_accuracy=0.9).u == u


def test_a_profile_of_another_bundle_is_refused() -> None:
    with pytest.raises(LimitError, match=r"^the profile is of another bundle: its operating points are not these$"):
        LimitedDial(POINTS[:3], PROFILE)


def test_choosing_takes_a_share_of_a_frames_time_that_does_not_show() -> None:
    points, measured = made([(float(i + 1), float(i + 1), i / 64) for i in range(64)])
    dial = LimitedDial(points, measured)
    took_us = []
    for _ in range(200):
        start = time.perf_counter_ns()
        assert dial.choose(max_ms=1.0, max_mj=1.0, min_accuracy=0.0).u == 0.0  # the last that is looked at
        took_us.append((time.perf_counter_ns() - start) / 1e3)
    assert min(took_us) < 20.0
