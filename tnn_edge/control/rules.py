"""What a rule policy is made of: rules that set u, limits that bound it, and what is wrong with a set of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from tnn_edge.control.conditions import Condition
from tnn_edge.control.observation import SIGNALS, check_value
from tnn_edge.throttle import check_throttle

__all__ = ["Limit", "Ramp", "Rule", "find_faults"]

Floats = npt.NDArray[np.float64]

_RESERVED = ("unknown_", "governor_")
"""How the reason codes begin that are not a rule's."""


@dataclass(frozen=True)
class Ramp:
    """u over a signal: straight lines between points, level beyond the first and the last.

    Attributes:
        signal: name in the observation table.
        points: (value of the signal, u), the values rising.
    """

    signal: str
    points: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if self.signal not in SIGNALS:
            raise ValueError(f"no signal is called {self.signal!r}; there are {', '.join(SIGNALS)}")
        xs = [x for x, _ in self.points]
        if len(xs) < 2 or any(a >= b for a, b in pairwise(xs)):
            raise ValueError(f"points must be two or more with rising {self.signal}, got {list(self.points)}")
        for x, u in self.points:
            check_value(f"points: {self.signal}", self.signal, x)
            check_throttle(u, "points: u")

    def at(self, x: Floats) -> Floats:
        """U at each value, NaN where the value is."""
        xs, us = zip(*self.points, strict=True)
        u: Floats = np.interp(x, xs, us)
        return u


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Sets u while all its conditions hold.

    Attributes:
        name: its reason code.
        when: conditions, all of which must hold; none means always.
        u: the throttle, or a ramp.
    """

    name: str
    when: tuple[Condition, ...] = ()
    u: float | Ramp

    def __post_init__(self) -> None:
        if not isinstance(self.u, Ramp):
            check_throttle(self.u, "u")


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Bounds u while all its conditions hold, whichever rule set it.

    Attributes:
        name: its reason code.
        when: conditions, as in a rule.
        floor: least u.
        ceiling: largest u.
        binds_if_unknown: whether it bounds u where its conditions are unknown. None: that is not told, and where u
            hangs on it, u is unknown.
    """

    name: str
    when: tuple[Condition, ...] = ()
    floor: float = 0.0
    ceiling: float = 1.0
    binds_if_unknown: bool | None = None

    def __post_init__(self) -> None:
        check_throttle(self.floor, "floor")
        check_throttle(self.ceiling, "ceiling")
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}")


def find_faults(rules: Sequence[Rule], limits: Sequence[Limit]) -> Iterator[tuple[Rule | Limit | None, str]]:
    """What is wrong with rules that are sound one by one: the culprit and the fault, in order; nothing where all is."""
    if not rules:
        yield None, "there is no rule; the least is one without conditions"
    elif rules[-1].when:
        yield rules[-1], "when must be left out of the last rule, so that it holds always"
    seen: set[str] = set()
    parts: list[Rule | Limit] = [*rules, *limits]
    for part in parts:
        if part.name.startswith(_RESERVED):
            yield part, f"name {part.name!r}: no name may begin with {' or '.join(_RESERVED)}"
        if part.name in seen:
            yield part, f"name {part.name!r} is taken; choose another"
        seen.add(part.name)
    for i, rule in enumerate(rules):
        for earlier in rules[:i]:
            if _covers(earlier.when, rule.when):
                yield rule, f"{rule.name!r} never comes into play: wherever it holds, {earlier.name!r} holds before it"
                break
    for i, limit in enumerate(limits):
        for other in limits[:i]:
            if max(limit.floor, other.floor) > min(limit.ceiling, other.ceiling) and _meet(limit.when, other.when):
                bounds = "the floor of one is above the ceiling of the other"
                yield limit, f"{limit.name!r} fights {other.name!r}: both can hold at once, and {bounds}"


def _covers(when: Sequence[Condition], other: Sequence[Condition]) -> bool:
    """Whether all of `when` hold wherever all of `other` do."""
    return all(any(condition.covers(o) for o in other) for condition in when)


def _meet(when: Sequence[Condition], other: Sequence[Condition]) -> bool:
    """Whether all conditions of both may hold at once."""
    return all(a.meets(b) for a in when for b in other)
