"""What a run comes to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tnn_edge.day.life import Life
    from tnn_edge.day.scenario import Scenario

__all__ = ["MODELLED", "Score", "mean_score"]

MODELLED = (
    "frames", "frames_served", "seen_and_right", "compute_wh", "total_wh", "hours_dark", "lowest_soc", "final_soc",
)  # fmt: skip
"""Scores that hang on the modelled camera, board, battery and sun. In `accuracy` the answers and in `mean_u` the
decisions are real; the light and the charge that they were given under are modelled."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """Sums of a run, or means of them over several.

    Attributes:
        frames: that the camera would have taken with power all along; modelled, as is every count of frames.
        frames_served: in the hours with power.
        accuracy: share of them that are classified right; None where none was served.
        seen_and_right: share of all frames that are served and right: a dark hour's frames are missed.
        compute_wh: energy that computing took; modelled, as are all energies.
        total_wh: energy that the board drew.
        mean_u: over the time with power; None where there was none.
        hours_dark: without power.
        lowest_soc: lowest state of charge.
        final_soc: state of charge at the end.
    """

    frames: float
    frames_served: float
    accuracy: float | None
    seen_and_right: float
    compute_wh: float
    total_wh: float
    mean_u: float | None
    hours_dark: float
    lowest_soc: float
    final_soc: float

    @classmethod
    def of(cls, life: Life, scenario: Scenario) -> Score:
        """The sums of a run, as far as it has come; at least one period."""
        n = life.n_done
        on = life.on_share[:n]
        frames_each = scenario.fps * scenario.period_s
        served = frames_each * float(on.sum())
        right = frames_each * float((on * life.right_share[:n]).sum())
        lowest = min(life.start_soc, float(life.soc[:n].min()))
        if life.is_brown_out[:n].any():  # within a period, at whose end it may have charged a little
            lowest = min(lowest, scenario.battery.cut_off)
        return cls(
            frames=frames_each * n,
            frames_served=served,
            accuracy=right / served if served else None,
            seen_and_right=right / (frames_each * n),
            compute_wh=float(life.compute_wh[:n].sum()),
            total_wh=float(life.load_wh[:n].sum()),
            mean_u=float(np.nansum(on * life.u[:n]) / on.sum()) if served else None,
            hours_dark=float((1.0 - on).sum()) * scenario.period_s / 3600.0,
            lowest_soc=lowest,
            final_soc=float(life.soc[n - 1]),
        )

    @property
    def survives(self) -> bool:
        """Whether the board had power all along."""
        return self.frames_served >= self.frames * (1.0 - 1e-12)

    def as_json(self) -> dict[str, float | None]:
        """The attributes as plain numbers."""
        return asdict(self)


def mean_score(scores: Sequence[Score]) -> Score:
    """Attribute by attribute; None where it is None in any, for a mean over fewer would compare unlike things."""
    fields = [score.as_json() for score in scores]
    values = {name: [row[name] for row in fields] for name in fields[0]}
    means = {
        name: None if any(v is None for v in column) else float(np.mean([v for v in column if v is not None]))
        for name, column in values.items()
    }
    return Score(**means)  # type: ignore[arg-type]
