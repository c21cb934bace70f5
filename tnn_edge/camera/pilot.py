"""The policy at the dial of a running camera: it observes, decides at its own rate, and hears the answers."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tnn_edge.camera.choice import Choice
from tnn_edge.camera.frame import Frame
from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.control import SIGNALS, Governed, Observation
from tnn_edge.device import PowerReading, PowerSource, Thermometer

__all__ = ["Pilot", "local_day_of_year", "local_hour"]

_STALE_PERIODS = 3.0
"""A measurement older than so many periods, or time constants, is unknown again."""


class Pilot:
    """Turns the dial by a policy.

    A decision is due when `period_s` has passed since the last, at the next frame that comes; in between u stays. All
    times are those of the frames on the monotonic clock, so that no jump of the wall clock disturbs anything but the
    signals `hour` and `day_of_year`. What is absent or stale is unknown.

    The signal `workload` is 1: every frame that comes is to be seen. `confidence` is an exponential average over time.

    Args:
        policy: under its governor, so that it always has an answer.
        power: battery, mains and income.
        thermometer: of the board.
        light: estimates illuminance from the frame at which a decision is due.
        period_s: time between two decisions.
        confidence_time_constant_s: of the average over confidences.
        hour_of: local time of day, in hours, of a moment in seconds since the epoch.
        day_of: local day of the year of such a moment, 1 on January 1.
        on_note: told once of each reason why a signal that the policy reads is unknown.
    """

    def __init__(
        self,
        policy: Governed[Any],
        *,
        power: PowerSource,
        thermometer: Thermometer,
        light: LightMeter,
        period_s: float = 1.0,
        confidence_time_constant_s: float = 10.0,
        hour_of: Callable[[float], float | None] | None = None,
        day_of: Callable[[float], float | None] | None = None,
        on_note: Callable[[str], None] = lambda note: None,
    ) -> None:
        for name, value in (("period_s", period_s), ("confidence_time_constant_s", confidence_time_constant_s)):
            if not 0.0 < value < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        self.policy = policy
        self._power = power
        self._thermometer = thermometer
        self._light = light
        self._period_s = period_s
        self._time_constant_s = confidence_time_constant_s
        self._hour_of = local_hour if hour_of is None else hour_of
        self._day_of = local_day_of_year if day_of is None else day_of
        self._on_note = on_note
        self._told: set[str] = set()
        self._state = policy.initial_state(1)
        self._choice: Choice | None = None
        self._decided_s = -math.inf
        self._lux: float | None = None
        self._lux_s = -math.inf
        self._confidence: float | None = None
        self._confidence_s = -math.inf

    def choose(self, frame: Frame, _n_frames: int | None = None) -> Choice:
        """The throttle for a frame: the last decision's, or a new one where that is due."""
        is_due = not 0.0 <= frame.captured_s - self._decided_s < self._period_s
        if self._choice is None or is_due:
            self._choice = self._decide(frame, self._choice)
            self._decided_s = frame.captured_s
        return self._choice

    def learn(self, confidence: float, at_s: float) -> None:
        """Average the confidence of an answer in."""
        elapsed_s = at_s - self._confidence_s
        if self._confidence is None or self._is_stale(elapsed_s, self._time_constant_s):
            self._confidence = confidence
        else:
            gain = 1.0 - math.exp(-max(0.0, elapsed_s) / self._time_constant_s)
            self._confidence += gain * (confidence - self._confidence)
        self._confidence_s = at_s

    def _decide(self, frame: Frame, last: Choice | None) -> Choice:
        observation = self._observe(frame, None if last is None else last.u)
        decision, self._state = self.policy.decide(observation, self._state)
        return Choice(
            u=float(decision.u[0]),
            decision=0 if last is None or last.decision is None else last.decision + 1,
            reason=self.policy.reasons[int(decision.reason[0])],
            observed={name: _known(float(values[0])) for name, values in observation.values.items()},
        )

    def _observe(self, frame: Frame, last_u: float | None) -> Observation:
        now_s = frame.captured_s
        power = self._power.read()
        temperature_c = self._thermometer.read()
        if (lux := self._light.lux(frame)) is not None:
            # A scene brighter than its meter guesses reads as more than the sun gives: it is bright all the same.
            self._lux, self._lux_s = min(lux, SIGNALS["lux"].high), now_s
        if self._is_stale(now_s - self._lux_s, self._period_s):
            self._lux = None
        self._tell(power, frame, temperature_c)
        return Observation.of(
            time_s=now_s,
            soc=_rounded(power.soc),
            on_mains=power.on_mains,
            power_in_w=_rounded(power.power_in_w),
            lux=_rounded(self._lux),
            confidence=_rounded(self._fresh_confidence(now_s)),
            temperature_c=_rounded(temperature_c),
            hour=_rounded(self._hour_of(frame.captured_at)),
            day_of_year=_rounded(self._day_of(frame.captured_at)),
            workload=1.0,
            last_u=_rounded(last_u),
        )

    def _fresh_confidence(self, now_s: float) -> float | None:
        is_stale = self._is_stale(now_s - self._confidence_s, max(self._time_constant_s, self._period_s))
        return None if is_stale else self._confidence

    def _tell(self, power: PowerReading, frame: Frame, temperature_c: float | None) -> None:
        """Say what is lacking, of the signals that matter."""
        notes = [f"{name} is unknown: {why}" for name, why in power.reasons.items() if name in self.policy.signals]
        if temperature_c is None:
            notes += [f"temperature_c is unknown: {why}" for why in self._thermometer.notes]
        if self._lux is None and frame.image is not None:
            why = "the picture is too dark or too white to tell"
            if not self._light.knows_exposure(frame):
                why = "the source does not say how its frames are exposed; [light] may"
            notes.append(f"lux is unknown: {why}")
        for note in notes:
            if note.partition(" ")[0] in self.policy.signals and note not in self._told:
                self._told.add(note)
                self._on_note(note)

    @staticmethod
    def _is_stale(age_s: float, period_s: float) -> bool:
        return abs(age_s) > _STALE_PERIODS * period_s  # what a clock that was set back calls the future is as strange


def local_hour(captured_at: float) -> float | None:
    """Time of day in hours in this machine's time zone; None for a moment that no calendar has."""
    local = _local(captured_at)
    return None if local is None else local.hour + local.minute / 60.0 + local.second / 3600.0


def local_day_of_year(captured_at: float) -> float | None:
    """Day of the year in this machine's time zone, 1 on January 1; None for a moment that no calendar has."""
    local = _local(captured_at)
    return None if local is None else float(local.timetuple().tm_yday)


def _local(captured_at: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(captured_at).astimezone()
    except (OverflowError, ValueError, OSError):
        return None


def _rounded(value: float | None) -> float | None:
    """What a record shows, so that a decision can be made again from it."""
    return None if value is None else float(f"{value:.6g}")


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
