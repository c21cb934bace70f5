"""The last word over any policy: the unknown, floor and ceiling, slew rate, thermal cap, and the reserve shield."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision, Policy
from tnn_edge.control.shield import ReserveShield
from tnn_edge.throttle import check_throttle

__all__ = ["Governed", "GovernorSettings", "GovernorState", "ThermalCap"]

S = TypeVar("S")
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_REASONS = ("governor_floor", "governor_ceiling", "governor_slew", "governor_thermal", "shield")


@dataclass(frozen=True, kw_only=True)
class ThermalCap:
    """A ceiling while the board is hot, and while nobody knows whether it is.

    Attributes:
        above_c: temperature at which it begins.
        until_c: temperature below which it ends.
        u: the ceiling.
    """

    above_c: float
    until_c: float
    u: float

    def __post_init__(self) -> None:
        for name in ("above_c", "until_c"):
            check_value(name, "temperature_c", getattr(self, name))
        if not self.until_c <= self.above_c:
            raise ValueError(f"until_c must not be above above_c {self.above_c:g}, got {self.until_c:g}")
        check_throttle(self.u, "u")


@dataclass(frozen=True, kw_only=True)
class GovernorSettings:
    """Bounds that hold whatever the policy says.

    Attributes:
        unknown_u: the declared answer, u where a signal is unknown that the policy needs.
        floor: least u.
        ceiling: largest u.
        max_slew_per_s: largest change of u in a second; the first decision is free.
        thermal: cap for a hot board, at once; None for none.
    """

    unknown_u: float
    floor: float = 0.0
    ceiling: float = 1.0
    max_slew_per_s: float = float("inf")
    thermal: ThermalCap | None = None

    def __post_init__(self) -> None:
        for name in ("unknown_u", "floor", "ceiling"):
            check_throttle(getattr(self, name), name)
        if self.floor > self.ceiling:
            raise ValueError(f"floor {self.floor:g} is above ceiling {self.ceiling:g}")
        if not self.floor <= self.unknown_u <= self.ceiling:
            raise ValueError(
                f"unknown_u must lie between floor {self.floor:g} and ceiling {self.ceiling:g}, got {self.unknown_u:g}"
            )
        if not self.max_slew_per_s > 0.0:
            raise ValueError(f"max_slew_per_s must be above 0, got {self.max_slew_per_s:g}")


@dataclass(frozen=True, eq=False, kw_only=True)
class GovernorState(Generic[S]):
    """Attributes: policy: the policy's state; u: last output, NaN before it, shape [n]; is_hot; time_s: of it."""

    policy: S
    u: Floats
    is_hot: Bools
    time_s: float


class Governed(Generic[S]):
    """A policy under a governor, itself a policy. Its throttle is always a number in [0, 1].

    In order: the unknown becomes `unknown_u`; floor and ceiling; slew; and last, at once, the thermal cap and the
    shield, which may take u below the floor, from where it rises again no faster than the slew allows. A decision's
    reason is that of the last stage that changed u, for the unknown the policy's own, which says what is lacking.

    Args:
        policy: any policy.
        settings: the bounds.
        shield: keeps a reserve in the battery; None for none.
    """

    def __init__(self, policy: Policy[S], settings: GovernorSettings, shield: ReserveShield | None = None) -> None:
        self.policy = policy
        self.settings = settings
        self.shield = shield

    @property
    def reasons(self) -> tuple[str, ...]:
        return (*self.policy.reasons, *_REASONS)

    @property
    def signals(self) -> frozenset[str]:
        thermal = {"temperature_c"} if self.settings.thermal else set()
        return self.policy.signals | thermal | (self.shield.signals if self.shield else set())

    def initial_state(self, n: int) -> GovernorState[S]:
        return GovernorState(
            policy=self.policy.initial_state(n), u=np.full(n, np.nan), is_hot=np.zeros(n, np.bool_), time_s=np.nan
        )

    def decide(self, observation: Observation, state: GovernorState[S]) -> tuple[Decision, GovernorState[S]]:
        decision, policy_state = self.policy.decide(observation, state.policy)
        limits = self.settings
        is_hot = self._hot(observation["temperature_c"], state.is_hot)
        u = np.where(np.isnan(decision.u), limits.unknown_u, decision.u)
        reason = decision.reason
        stages: list[Callable[[Floats], Floats]] = [
            lambda u: np.maximum(u, limits.floor),
            lambda u: np.minimum(u, limits.ceiling),
            lambda u: self._slewed(u, observation.time_s, state),
            lambda u: self._capped(u, is_hot),
            lambda u: u if self.shield is None else self.shield.limited(u, observation),
        ]
        for code, stage in enumerate(stages, start=len(self.policy.reasons)):
            after = stage(u)
            u, reason = after, np.where(after == u, reason, code)
        governed = GovernorState(policy=policy_state, u=u, is_hot=is_hot, time_s=observation.time_s)
        return Decision(u, reason), governed

    def _slewed(self, u: Floats, time_s: float, state: GovernorState[S]) -> Floats:
        if not np.isfinite(self.settings.max_slew_per_s):
            return u
        elapsed_s = max(0.0, time_s - state.time_s)  # a clock that was set back allows no change
        reach = self.settings.max_slew_per_s * elapsed_s
        is_first = np.isnan(state.u)
        return np.where(is_first, u, np.clip(u, state.u - reach, state.u + reach))

    def _hot(self, temperature_c: Floats, was: Bools) -> Bools:
        cap = self.settings.thermal
        if cap is None:
            return was
        # A comparison with NaN is false: the unknown is not cool.
        hot: Bools = ~(temperature_c < cap.above_c) | (was & ~(temperature_c < cap.until_c))
        return hot

    def _capped(self, u: Floats, is_hot: Bools) -> Floats:
        cap = self.settings.thermal
        return u if cap is None else np.where(is_hot, np.minimum(u, cap.u), u)
