"""When a rule holds: conditions on single signals, with hysteresis, true, false or unknown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import SIGNALS, check_value

__all__ = ["FALSE", "TRUE", "UNKNOWN", "Condition", "IsUnknown", "Truth", "Within", "all_of"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Truth = npt.NDArray[np.int8]

FALSE, UNKNOWN, TRUE = -1, 0, 1


@dataclass(frozen=True, kw_only=True)
class Within:
    """A signal lies in an interval; once it does, it counts as inside until it leaves a wider one.

    Both intervals are half open, `enter_low <= x < enter_high`; where `enter_low > enter_high` they wrap, as hours over
    midnight do. The condition on an unknown signal is unknown, and remembers what it was.

    Attributes:
        signal: name in the observation table.
        enter_low: from where it holds; -inf for no bound.
        enter_high: up to where it holds; inf for no bound.
        leave_low: below it the condition ends; at most `enter_low`.
        leave_high: from it on the condition ends; at least `enter_high`.
    """

    signal: str
    enter_low: float
    enter_high: float
    leave_low: float
    leave_high: float

    def __post_init__(self) -> None:
        _check_signal(self.signal)
        for name in ("enter_low", "enter_high", "leave_low", "leave_high"):
            if abs(bound := getattr(self, name)) != np.inf:
                check_value(name, self.signal, bound)
        if self.leave_low > self.enter_low or self.leave_high < self.enter_high:
            raise ValueError(
                f"the condition on {self.signal} would end before it begins: it holds in "
                f"[{self.enter_low:g}, {self.enter_high:g}) and ends outside [{self.leave_low:g}, {self.leave_high:g})"
            )

    def update(self, x: Floats, was: Bools) -> tuple[Truth, Bools]:
        """Judge, and remember.

        Args:
            x: the signal, shape [n]; NaN is unknown.
            was: whether the condition held when the signal was last known, shape [n].

        Returns:
            Truth, and what to remember.
        """
        enters = _inside(x, self.enter_low, self.enter_high)
        stays = was & _inside(x, self.leave_low, self.leave_high)
        holds = enters | stays
        known = ~np.isnan(x)
        truth = np.where(known, np.where(holds, TRUE, FALSE), UNKNOWN).astype(np.int8)
        return truth, np.where(known, holds, was)

    def covers(self, other: Condition) -> bool:
        """Whether this holds, from the start, wherever `other` may hold, hysteresis included."""
        if not isinstance(other, Within) or other.signal != self.signal or self.wraps or other.wraps:
            return self == other
        return self.enter_low <= other.leave_low and other.leave_high <= self.enter_high

    def meets(self, other: Condition) -> bool:
        """Whether some value of one signal may satisfy both."""
        if self.signal != other.signal:
            return True
        if not isinstance(other, Within):
            return False
        return any(a < d and c < b for a, b in self.pieces() for c, d in other.pieces())

    @property
    def wraps(self) -> bool:
        """Whether the interval runs over the end of its scale."""
        return self.enter_low > self.enter_high

    def pieces(self) -> list[tuple[float, float]]:
        """The intervals in which it can hold, hysteresis included."""
        if self.wraps:
            return [(-np.inf, self.leave_high), (self.leave_low, np.inf)]
        return [(self.leave_low, self.leave_high)]


@dataclass(frozen=True, kw_only=True)
class IsUnknown:
    """A signal is unknown. Never unknown itself.

    Attributes:
        signal: name in the observation table.
    """

    signal: str

    def __post_init__(self) -> None:
        _check_signal(self.signal)

    def update(self, x: Floats, was: Bools) -> tuple[Truth, Bools]:
        """As in `Within`; there is nothing to remember."""
        return np.where(np.isnan(x), TRUE, FALSE).astype(np.int8), was

    def covers(self, other: Condition) -> bool:
        """Whether this holds wherever `other` may."""
        return self == other

    def meets(self, other: Condition) -> bool:
        """Whether one value may satisfy both."""
        return self.signal != other.signal or isinstance(other, IsUnknown)


Condition = Within | IsUnknown


def all_of(truths: list[Truth], n: int) -> Truth:
    """Three-valued `and`: false where any is false, else unknown where any is unknown. True where there is none."""
    return np.min(truths, axis=0) if truths else np.full(n, TRUE, np.int8)


def _inside(x: Floats, low: float, high: float) -> Bools:
    inside: Bools = (x >= low) & (x < high) if low <= high else (x >= low) | (x < high)
    return inside


def _check_signal(name: str) -> None:
    if name not in SIGNALS:
        raise ValueError(f"no signal is called {name!r}; there are {', '.join(SIGNALS)}")
