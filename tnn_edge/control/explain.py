"""What a policy answers over state of charge and light, the other signals held."""

from __future__ import annotations

import math
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.control.observation import SIGNALS, Observation, check_value
from tnn_edge.control.policy import Policy
from tnn_edge.errors import InputError

__all__ = ["USUAL", "Explanation", "explain_policy"]

Floats = npt.NDArray[np.float64]

USUAL: Mapping[str, float] = {
    "on_mains": 0.0,
    "power_in_w": 0.0,
    "confidence": 0.8,
    "temperature_c": 40.0,
    "hour": 12.0,
    "day_of_year": 172.0,
    "workload": 1.0,
    "last_u": 0.5,
}
"""Where the other signals stand that are not asked about."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """Answers of a policy that has no past, on a grid of state of charge and light.

    Attributes:
        soc: rising, shape [n_soc].
        lux: rising, shape [n_lux].
        u: throttle, shape [n_soc, n_lux].
        reason: index into `reasons`, shape [n_soc, n_lux].
        reasons: the policy's reason codes.
        held: the other signals; NaN is unknown.
    """

    soc: Floats
    lux: Floats
    u: Floats
    reason: npt.NDArray[np.intp]
    reasons: tuple[str, ...]
    held: Mapping[str, float]

    def letters(self) -> dict[int, str]:
        """A short name for each reason that is given somewhere, in the order of `reasons`: a, b, ..., z, aa, ..."""
        n_letters = len(string.ascii_lowercase)
        return {
            int(code): string.ascii_lowercase[i % n_letters] * (1 + i // n_letters)
            for i, code in enumerate(np.unique(self.reason))
        }

    def held_text(self) -> str:
        """The other signals in words."""
        return ", ".join(f"{name} {'unknown' if math.isnan(x) else f'{x:g}'}" for name, x in self.held.items())


def explain_policy(
    policy: Policy[Any],
    *,
    soc: npt.ArrayLike,
    lux: npt.ArrayLike,
    held: Mapping[str, float] | None = None,
) -> Explanation:
    """Ask a policy at every pair of state of charge and illuminance.

    Every pair is a device of its own without a past: hysteresis has not latched, nothing dwells or slews.

    Args:
        policy: any policy.
        soc: states of charge, rising, shape [n_soc].
        lux: illuminances, rising, shape [n_lux].
        held: other signals, over `USUAL`; NaN for unknown.

    Raises:
        InputError: `held` names a signal that there is not, one of the two axes, or a value out of its bounds.
    """
    for name, value in (held or {}).items():
        if name not in USUAL:
            raise InputError(f"{name} cannot be held; there are {', '.join(USUAL)}, and soc and lux are the axes")
        if not math.isnan(value):
            try:
                check_value(name, name, value)
            except ValueError as err:
                raise InputError(str(err)) from err
    others = {**USUAL, **(held or {})}
    socs, luxes = np.atleast_1d(np.asarray(soc, np.float64)), np.atleast_1d(np.asarray(lux, np.float64))
    grid_soc, grid_lux = np.meshgrid(socs, luxes, indexing="ij")
    n = grid_soc.size
    signals: dict[str, Any] = {**others, "soc": grid_soc.ravel(), "lux": grid_lux.ravel()}
    decision, _ = policy.decide(Observation.of(time_s=0.0, n=n, **signals), policy.initial_state(n))
    return Explanation(
        soc=socs,
        lux=luxes,
        u=decision.u.reshape(grid_soc.shape),
        reason=decision.reason.reshape(grid_soc.shape),
        reasons=policy.reasons,
        held={name: others[name] for name in SIGNALS if name in others},
    )
