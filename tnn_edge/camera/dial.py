"""Where the throttle stands on each frame, as the user wrote it: `0.4`, or `0:1`."""

from __future__ import annotations

from dataclasses import dataclass

from tnn_edge.camera.choice import Choice
from tnn_edge.camera.frame import Frame
from tnn_edge.errors import InputError
from tnn_edge.throttle import check_throttle

__all__ = ["RAMP_PERIOD", "Dial"]

RAMP_PERIOD = 200
"""Frames from `start` to `end` and back on a source without an end."""


@dataclass(frozen=True)
class Dial:
    """A throttle that stands still, or moves from `start` to `end`.

    Over a source whose length is known, u rises (or falls) linearly from the first frame to the last. Over one that has
    no end, it swings there and back in a triangle wave.

    Attributes:
        start: u of the first frame, in [0, 1].
        end: u of the last frame, in [0, 1].
        period: frames from `start` to `end` and back where there is no last frame, at least 2.

    Raises:
        ThrottleRangeError: a u outside [0, 1] or NaN.
    """

    start: float
    end: float
    period: int = RAMP_PERIOD

    def __post_init__(self) -> None:
        for u in (self.start, self.end):
            check_throttle(u)
        if self.period < 2:
            raise InputError(f"a ramp's period must be at least 2 frames, got {self.period}")

    @classmethod
    def parse(cls, text: str, *, period: int = RAMP_PERIOD) -> Dial:
        """Read `U` or `U1:U2`.

        Raises:
            InputError: the text is neither.
            ThrottleRangeError: a u outside [0, 1] or NaN.
        """
        parts = text.split(":")
        try:
            numbers = [float(part) for part in parts]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2):
            raise InputError(f"throttle must be a number like 0.4 or a ramp like 0:1, got {text!r}")
        return cls(numbers[0], numbers[-1], period)

    def choose(self, frame: Frame, n_frames: int | None) -> Choice:
        """The throttle of a frame."""
        return Choice(u=self.at(frame.index, n_frames))

    def learn(self, confidence: float, at_s: float) -> None:
        """A dial that is set by hand learns nothing."""

    def at(self, index: int, n_frames: int | None) -> float:
        """The throttle of frame `index`.

        Args:
            index: 0 for the first frame.
            n_frames: frames to come in all; None when there is no end.
        """
        if n_frames is None:
            turn = self.period // 2  # a frame, so that `end` is reached with an odd period too
            i = index % self.period
            share = i / turn if i <= turn else (self.period - i) / (self.period - turn)
        else:
            # A video may hold more frames than its header says: the ramp then stays at its end.
            share = min(1.0, index / (n_frames - 1)) if n_frames > 1 else 0.0
        # Exact at both ends: an operating point may begin at just that u.
        return self.end if share == 1.0 else self.start + share * (self.end - self.start)
