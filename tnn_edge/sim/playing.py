"""A policy at the dial of simulated devices, from the first step of their traces to the last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.control import Observation, Policy
from tnn_edge.sim import core
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.forcing import EVENTS_PER_H, WORKLOAD, Forcing
from tnn_edge.sim.traces import Traces

__all__ = ["Course", "Outcome", "play"]

Floats = npt.NDArray[np.float64]

START_SOC = 0.6


@dataclass(frozen=True, eq=False, kw_only=True)
class Outcome:
    """What a policy got on each of n devices; everything of shape [n].

    Attributes:
        right: events answered right, expected.
        events: events that there were, as many as full computing could have answered.
        utility: `right` less the cost of brown-outs: what the optimum is the optimum of.
        brown_outs: how often the device lost power.
        hours_down: how long it had none.
        load_wh: energy that the board took, converter included.
        spilled_wh: energy that the panel could have given and nothing took.
        mean_u: throttle that was computed, mean over the time with power.
    """

    right: Floats
    events: Floats
    utility: Floats
    brown_outs: Floats
    hours_down: Floats
    load_wh: Floats
    spilled_wh: Floats
    mean_u: Floats


@dataclass(frozen=True, eq=False, kw_only=True)
class Course:
    """How it went, shape [n_steps, n] each.

    Attributes:
        soc: state of charge after the step.
        u: throttle that was computed.
        on_share: part of the step with power.
        right: events answered right.
        is_brown_out: whether the device lost power in the step.
        reason: index into the policy's reasons.
    """

    soc: Floats
    u: Floats
    on_share: Floats
    right: Floats
    is_brown_out: npt.NDArray[np.bool_]
    reason: npt.NDArray[np.intp]

    @classmethod
    def empty(cls, n_steps: int, n: int) -> Course:
        """To be filled step by step with `keep`."""
        shape = (n_steps, n)
        return cls(
            soc=np.empty(shape),
            u=np.empty(shape),
            on_share=np.empty(shape),
            right=np.empty(shape),
            is_brown_out=np.empty(shape, np.bool_),
            reason=np.zeros(shape, np.intp),
        )

    def keep(self, t: int, state: Floats, flows: Floats, parameters: Floats) -> None:
        """Keep what the core says of the first devices after step t, all but the reason."""
        n = self.soc.shape[1]
        self.soc[t] = state[:n, core.CHARGE_WH] / parameters[:n, core.USABLE_WH]
        self.u[t] = flows[:n, core.SERVED_U]
        self.on_share[t] = flows[:n, core.ON_SHARE]
        self.right[t] = flows[:n, core.RIGHT]
        self.is_brown_out[t] = flows[:n, core.BROWN_OUT] > 0.0


def play(
    device: CameraDevice,
    traces: Traces,
    policy: Policy[Any],
    *,
    start_soc: npt.ArrayLike = START_SOC,
    parameters: Floats | None = None,
    trace: npt.NDArray[np.intp] | None = None,
    n_courses: int = 0,
    on_step: Callable[[int], None] = lambda t: None,
) -> tuple[Outcome, Course]:
    """Let a policy decide at every step, all devices side by side.

    A policy that is in doubt (u is NaN) gets the least throttle; under its governor it never is.

    Args:
        device: what is simulated.
        traces: what they meet.
        policy: as it would run on the device.
        start_soc: state of charge at the start, a number or shape [n].
        parameters: of each device, where they differ; shape [n, core.N_PARAMETERS].
        trace: of each device, shape [n]; by default there is one device for each trace.
        n_courses: how many of the first devices' courses to keep.
        on_step: told of each step that is done.

    Returns:
        What came of it, and the courses of the first `n_courses` devices.
    """
    forcing, profile = Forcing.of(device, traces), device.profile
    which = np.arange(len(traces)) if trace is None else trace
    n = len(which)
    numbers = core.parameters_of(device, n, step_s=traces.step_s) if parameters is None else parameters
    state = core.start(numbers, forcing.rows, soc=start_soc, trace=which)
    flows, total, total_u = np.empty((n, core.N_FLOWS)), np.zeros((n, core.N_FLOWS)), np.zeros(n)
    course = Course.empty(traces.n_steps, n_courses)
    memory, start_hour = policy.initial_state(n), traces.start_hour
    for t in range(traces.n_steps):
        decision, memory = policy.decide(_observe(state, numbers, forcing, traces, which, t, start_hour[t]), memory)
        u = np.nan_to_num(decision.u, nan=0.0)
        core.advance(
            state, u, forcing.rows, numbers, profile.u, profile.power_w, profile.accuracy, profile.confidence, flows
        )
        total += flows
        total_u += flows[:, core.SERVED_U] * flows[:, core.ON_SHARE]
        course.keep(t, state, flows, numbers)
        course.reason[t] = decision.reason[:n_courses]
        on_step(t)
    hours = traces.step_s / 3600.0
    outcome = Outcome(
        right=total[:, core.RIGHT],
        events=forcing.rows[..., EVENTS_PER_H].sum(axis=1)[which] * hours,
        utility=total[:, core.UTILITY],
        brown_outs=total[:, core.BROWN_OUT],
        hours_down=(traces.n_steps - total[:, core.ON_SHARE]) * hours,
        load_wh=total[:, core.LOAD_WH],
        spilled_wh=total[:, core.SPILLED_WH],
        mean_u=total_u / np.maximum(total[:, core.ON_SHARE], 1.0),
    )
    return outcome, course


def _observe(
    state: Floats,
    parameters: Floats,
    forcing: Forcing,
    traces: Traces,
    which: npt.NDArray[np.intp],
    t: int,
    hour: float,
) -> Observation:
    """What a policy may know at the beginning of a step."""
    return Observation.of(
        time_s=t * traces.step_s,
        soc=state[:, core.CHARGE_WH] / parameters[:, core.USABLE_WH],
        on_mains=0.0,
        power_in_w=state[:, core.POWER_IN_W],
        lux=traces.lux[which, t],
        confidence=state[:, core.CONFIDENCE],
        temperature_c=state[:, core.TEMPERATURE_C],
        hour=hour,
        day_of_year=traces.day_of_year[t],
        workload=forcing.rows[which, t, WORKLOAD],
        last_u=state[:, core.LAST_U],
    )
