"""Who turns the dial while frames go by: a fixed setting, or a policy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tnn_edge.camera.frame import Frame

__all__ = ["Choice", "Chooser"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """The throttle of a frame, and where it comes from.

    Attributes:
        u: throttle in [0, 1].
        decision: number of the decision that set it, from 0; None where nobody decides.
        reason: reason code of that decision.
        observed: every signal that the decision was made on, None for the unknown.
    """

    u: float
    decision: int | None = None
    reason: str | None = None
    observed: Mapping[str, float | None] = field(default_factory=dict)


class Chooser(Protocol):
    """Whatever chooses the throttle of each frame, and may learn from the answers."""

    def choose(self, frame: Frame, n_frames: int | None, /) -> Choice:
        """The throttle for a frame that was captured just now.

        Args:
            frame: the frame, which may have no image.
            n_frames: frames to come in all; None when there is no end.
        """
        ...

    def learn(self, confidence: float, at_s: float, /) -> None:
        """Hear how sure the network was, in [0, 1], of a frame captured at `at_s`, seconds on the monotonic clock."""
        ...
