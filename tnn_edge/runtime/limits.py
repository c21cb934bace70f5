"""Operating points by what they may cost: the dial set in milliseconds, millijoules or accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import NamedTuple

from tnn_edge.bundle import OperatingPoint
from tnn_edge.errors import LimitError
from tnn_edge.runtime.cost_profile import PointCost, Profile

__all__ = ["LimitedDial"]

_DIGITS = 4
"""Of a value in a message."""


class _Row(NamedTuple):
    """One operating point; what is unknown is as bad as can be, so that it meets no limit."""

    ms: float
    mj: float
    accuracy: float
    point: OperatingPoint


class _Quantity(NamedTuple):
    """What can be limited, and how a message says so.

    Attributes:
        column: of `_Row`.
        sign: 1 where the limit is the most, -1 where it is the least.
    """

    column: int
    sign: int
    asks: str
    shows: str
    unknown: str


_MEASURED = "measured on this machine with these settings, and none is known: 'tnn-edge profile B' measures it"
_QUANTITIES = {
    "max_ms": _Quantity(0, 1, "takes at most {:g} ms", "{} ms (p95)", f"max_ms needs a latency {_MEASURED}"),
    "max_mj": _Quantity(1, 1, "takes at most {:g} mJ", "{} mJ", f"max_mj needs an energy {_MEASURED}"),
    "min_accuracy": _Quantity(
        2,
        -1,
        "has an accuracy of at least {:g}",
        "an accuracy of {}",
        "min_accuracy needs accuracies, and the bundle holds none; export it again with held-out images: "
        "python -m export RUN --out BUNDLE --data DIR",
    ),
}


class LimitedDial:
    """Chooses the operating point that honours limits. Built once, asked for each frame.

    Nothing is assumed about how cost and accuracy change with u: every point counts with its own figures.

    Args:
        points: operating points, u rising, with their accuracies.
        profile: what they cost on this machine; None where that was not measured.

    Raises:
        LimitError: the profile is of other points.
    """

    def __init__(self, points: Sequence[OperatingPoint], profile: Profile | None) -> None:
        costs: Sequence[PointCost | None] = [None] * len(points) if profile is None else profile.points
        if profile is not None and [cost.u for cost in profile.points] != [point.u for point in points]:
            raise LimitError("the profile is of another bundle: its operating points are not these")
        self._rows = [_row(point, cost) for point, cost in zip(points, costs, strict=True)]
        self._best_first = sorted(self._rows, key=_by_accuracy(self._rows), reverse=True)
        self._cheapest_first = sorted(self._rows, key=_by_cost(self._rows, costs))

    def choose(
        self, *, max_ms: float | None = None, max_mj: float | None = None, min_accuracy: float | None = None
    ) -> OperatingPoint:
        """The operating point that honours every limit given.

        With `max_ms` or `max_mj` that is the most accurate of those that do, of equal ones the one of the largest u;
        where the accuracy of a point is unknown, the one of the largest u. With `min_accuracy` alone it is the one
        that takes the least energy, or time where energies are unknown, or MACs where times are too.

        Args:
            max_ms: most time of an inference in the engine, kept by its 95th percentile.
            max_mj: most energy of an inference on average, with what the machine takes at rest.
            min_accuracy: least share of right answers on held-out images.

        Raises:
            LimitError: no point honours them, what they limit is unknown, or they are no limits; the message names the
                nearest point.
        """
        if max_ms is None and max_mj is None:
            if min_accuracy is None:
                raise LimitError("a limit is needed: max_ms, max_mj or min_accuracy")
            rows = self._cheapest_first
        else:
            rows = self._best_first
        most_ms = math.inf if max_ms is None else _checked_cost(max_ms, "max_ms")
        most_mj = math.inf if max_mj is None else _checked_cost(max_mj, "max_mj")
        least = -math.inf if min_accuracy is None else _checked_share(min_accuracy)
        for ms, mj, accuracy, point in rows:
            if ms <= most_ms and mj <= most_mj and accuracy >= least:
                return point
        given = {"max_ms": max_ms, "max_mj": max_mj, "min_accuracy": min_accuracy}
        raise LimitError(_refusal(self._rows, {name: limit for name, limit in given.items() if limit is not None}))


def _row(point: OperatingPoint, cost: PointCost | None) -> _Row:
    accuracy = -math.inf if point.accuracy is None else point.accuracy
    if cost is None:
        return _Row(math.inf, math.inf, accuracy, point)
    return _Row(cost.latency_p95_ms, math.inf if cost.energy_mj is None else cost.energy_mj, accuracy, point)


def _by_accuracy(rows: Sequence[_Row]) -> Callable[[_Row], tuple[float, float]]:
    if all(math.isfinite(row.accuracy) for row in rows):
        return lambda row: (row.accuracy, row.point.u)
    return lambda row: (0.0, row.point.u)


def _by_cost(rows: Sequence[_Row], costs: Sequence[PointCost | None]) -> Callable[[_Row], float]:
    if all(math.isfinite(row.mj) for row in rows):
        return lambda row: row.mj
    ms = {cost.u: cost.latency_p50_ms for cost in costs if cost is not None}
    return (lambda row: ms[row.point.u]) if ms else (lambda row: row.point.macs)


def _checked_cost(limit: float, name: str) -> float:
    if not limit > 0.0:  # also true for NaN
        raise LimitError(f"{name} must be above 0, got {limit:g}")
    return limit


def _checked_share(limit: float) -> float:
    if not 0.0 <= limit <= 1.0:
        raise LimitError(f"min_accuracy must lie in [0, 1], got {limit:g}")
    return limit


def _refusal(rows: Sequence[_Row], limits: Mapping[str, float]) -> str:
    """Why no point honours the limits, and which points come nearest.

    For each limit that is the point that does best in it among those that honour the others.
    """
    for name in limits:
        if not any(math.isfinite(_value(row, name)) for row in rows):
            return _QUANTITIES[name].unknown
    nearest = [
        f"u={best.point.u:.4g} with {_shown(best, name)}{_gives_way(name, limits)}"
        for name in limits
        if (best := _best(rows, name, {other: limits[other] for other in limits if other != name})) is not None
    ]
    if not nearest:  # no point honours even all but one
        nearest = [
            f"u={best.point.u:.4g} with {_shown(best, name)}" for name in limits if (best := _best(rows, name, {}))
        ]
    asks = " and ".join(_QUANTITIES[name].asks.format(limit) for name, limit in limits.items())
    return f"no operating point {asks}: the nearest is {', or '.join(nearest)}"


def _value(row: _Row, name: str) -> float:
    return (row.ms, row.mj, row.accuracy)[_QUANTITIES[name].column]


def _excess(row: _Row, name: str, limit: float = 0.0) -> float:
    """Above 0 where the point misses the limit."""
    return _QUANTITIES[name].sign * (_value(row, name) - limit)


def _best(rows: Sequence[_Row], name: str, others: Mapping[str, float]) -> _Row | None:
    """The point that does best in one quantity among those that honour the other limits, where it is known."""
    honest = [row for row in rows if all(_excess(row, other, limit) <= 0.0 for other, limit in others.items())]
    known = [row for row in honest if math.isfinite(_excess(row, name))]
    return min(known, key=lambda row: _excess(row, name), default=None)


def _gives_way(name: str, limits: Mapping[str, float]) -> str:
    return f" where only {name} gives way" if len(limits) > 1 else ""


def _shown(row: _Row, name: str) -> str:
    """A point's value, rounded so that it would be met as a limit."""
    quantity, value = _QUANTITIES[name], Decimal(repr(_value(row, name)))  # as it is written: 7.2 shall stay 7.2
    step = Decimal(1).scaleb(value.adjusted() + 1 - _DIGITS) if value else Decimal(1)
    rounding = ROUND_CEILING if quantity.sign > 0 else ROUND_FLOOR
    return quantity.shows.format(f"{value.quantize(step, rounding):f}")
