"""How old results are: percentiles over a run of any length, in memory that does not grow."""

from __future__ import annotations

import math

__all__ = ["Ages"]

_RATIO = 1.02
"""Upper over lower bound of a bucket, which is the error of a percentile."""

_SMALLEST_MS = 1e-3
"""Everything below shares the first bucket."""


class Ages:
    """Counts in buckets of equal ratio, as in HDR histograms: a percentile is right within 2 %."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._n = 0
        self.max_ms = 0.0

    def __len__(self) -> int:
        return self._n

    def add(self, age_ms: float) -> None:
        """Count one result of that age, >= 0."""
        bucket = max(0, math.ceil(math.log(max(age_ms, _SMALLEST_MS) / _SMALLEST_MS, _RATIO)))
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._n += 1
        self.max_ms = max(self.max_ms, age_ms)

    def percentile(self, percent: float) -> float | None:
        """The age that so many percent of the results do not exceed, in ms; None before the first.

        Args:
            percent: in (0, 100].
        """
        if not self._n:
            return None
        rank = math.ceil(self._n * percent / 100)
        below = 0
        for bucket in sorted(self._counts):
            below += self._counts[bucket]
            if below >= rank:
                return min(_SMALLEST_MS * _RATIO**bucket, self.max_ms)
        raise AssertionError("the counts do not add up")
