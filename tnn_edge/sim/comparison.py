"""Policies side by side on one simulation, with the optimum of its first device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.control import Governed, Policy
from tnn_edge.sim.envelope import check_reserve
from tnn_edge.sim.oracle import Optimum, find_optimum
from tnn_edge.sim.playing import Course, Outcome, play
from tnn_edge.sim.simulation import Simulation
from tnn_edge.sim.traces import Traces

__all__ = ["Comparison", "Played", "compare"]

Floats = npt.NDArray[np.float64]

_STRIDE = 96
"""Steps between two words of progress."""

MOST_YEARS = 100
"""Years of weather for a fleet; more devices share them, as those of one town do."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Played:
    """Attributes: outcome: of each device; course: of the first one, with n = 1; reasons: the policy's codes."""

    outcome: Outcome
    course: Course
    reasons: tuple[str, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """What came of it.

    Attributes:
        traces: what the devices met; the first device met the first.
        events_per_h: that full computing could answer on the first device, shape [n_steps].
        n_days: length.
        n_devices: size of the fleet.
        played: name -> what the policy got.
        optimum: of the first device.
    """

    traces: Traces
    events_per_h: Floats
    n_days: int
    n_devices: int
    played: Mapping[str, Played]
    optimum: Optimum

    def share_of_optimum(self, name: str) -> float | None:
        """What a policy got on the first device over what the optimum's plan attained; None where that is 0 or less."""
        attained = self.optimum.attained
        return float(self.played[name].outcome.utility[0] / attained) if attained > 0.0 else None


def compare(
    simulation: Simulation,
    policies: Mapping[str, Policy[Any]],
    *,
    n_days: int | None,
    n_devices: int = 1,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Comparison:
    """Play every policy on the same weather, work and devices, and find the optimum of the first device.

    Args:
        simulation: device, place and fleet.
        policies: by name.
        n_days: length; None for a year, or for all of the user's own file.
        n_devices: size of the fleet.
        on_progress: told which share of the work is done since it was last told.

    Raises:
        InputError: a policy's shield keeps the reserve of another device.
    """
    for policy in policies.values():
        if isinstance(policy, Governed) and policy.shield is not None:
            check_reserve(policy.shield.reserve, simulation.device, period_s=simulation.period_s)
    traces = simulation.traces(n_days=n_days, n_years=min(n_devices, MOST_YEARS))
    parameters = simulation.parameters(n_devices)
    trace = np.arange(n_devices) % len(traces)
    share = _STRIDE / (traces.n_steps * len(policies))
    is_stopped = np.zeros(1, np.bool_)
    with ThreadPoolExecutor(1) as beside:  # compiled, without the interpreter's lock
        sought = beside.submit(
            find_optimum, simulation.device, traces, 0, start_soc=simulation.start_soc, is_stopped=is_stopped
        )
        try:
            played = {
                name: _play(simulation, traces, policy, parameters, trace, share, on_progress)
                for name, policy in policies.items()
            }
            optimum = sought.result()
        except BaseException:
            is_stopped[0] = True
            raise
    found_days = round(traces.n_steps * traces.step_s / 86_400.0)
    return Comparison(
        traces=traces,
        events_per_h=simulation.device.workload.answerable(traces.events_per_h[0]),
        n_days=found_days,
        n_devices=n_devices,
        played=played,
        optimum=optimum,
    )


def _play(
    simulation: Simulation,
    traces: Traces,
    policy: Policy[Any],
    parameters: Floats,
    trace: npt.NDArray[np.intp],
    share: float,
    on_progress: Callable[[float], None],
) -> Played:
    outcome, course = play(
        simulation.device,
        traces,
        policy,
        start_soc=simulation.start_soc,
        parameters=parameters,
        trace=trace,
        n_courses=1,
        on_step=lambda t: on_progress(share) if t % _STRIDE == _STRIDE - 1 else None,
    )
    return Played(outcome=outcome, course=course, reasons=policy.reasons)
