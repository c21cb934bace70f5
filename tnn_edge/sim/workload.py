"""How much there is to see: events an hour, and the share of full computing that they ask for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Workload"]


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What events ask of a camera whose network looks at some frames anyway, and at all of them while things happen.

    Attributes:
        base_share: share of the full frame rate that the network looks at while nothing happens, in [0, 1).
        full_events_per_h: events an hour from which on it looks at every frame; it cannot answer more.
    """

    base_share: float = 0.25
    full_events_per_h: float = 240.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.base_share < 1.0:
            raise ValueError(f"base_share must lie in [0, 1), got {self.base_share:g}")
        if not 0.0 < self.full_events_per_h < np.inf:
            raise ValueError(f"full_events_per_h must be a finite number above 0, got {self.full_events_per_h:g}")

    def answerable(self, events_per_h: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """As many of the events as full computing can answer, of the same shape."""
        return np.minimum(np.asarray(events_per_h, np.float64), self.full_events_per_h)

    def share(self, events_per_h: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """Share of full computing, in [`base_share`, 1], of the shape of the events.

        Args:
            events_per_h: >= 0, any shape.
        """
        busy = np.minimum(np.asarray(events_per_h, np.float64) / self.full_events_per_h, 1.0)
        return np.asarray(self.base_share + (1.0 - self.base_share) * busy)
