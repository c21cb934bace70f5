"""The optimum in hindsight, between what a plan attains and a bound that nothing exceeds."""

from __future__ import annotations

from concurrent.futures import CancelledError
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tnn_edge.sim import core
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.forcing import Forcing
from tnn_edge.sim.oracle_bound import bound_values
from tnn_edge.sim.oracle_plan import plan
from tnn_edge.sim.oracle_terms import Terms
from tnn_edge.sim.playing import START_SOC, Course
from tnn_edge.sim.traces import Traces

__all__ = ["N_NODES", "Optimum", "find_optimum"]

Floats = npt.NDArray[np.float64]

N_NODES = 2501
"""Nodes of charge: a year at 15 minutes is bracketed within 1 %, from 40 Wh to 300 Wh and from Miami to Alaska.

One more than a multiple of 50, so that cut-off and reboot at whole percents fall on nodes in the warmth: 2401 are worse
than 2001.
"""


@dataclass(frozen=True, eq=False, kw_only=True)
class Optimum:
    """The best that any policy could have got from one trace.

    Attributes:
        attained: utility of the plan, followed on the simulated device.
        bound: utility that no policy exceeds.
        brown_outs: how often the plan lets the device lose power.
        course: how the plan went, with n = 1.
    """

    attained: float
    bound: float
    brown_outs: int
    course: Course

    @property
    def gap(self) -> float | None:
        """What the optimum may exceed `attained` by, over `attained`; None where that is nothing or less."""
        return self.bound / self.attained - 1.0 if self.attained > 0.0 else None


def find_optimum(
    device: CameraDevice,
    traces: Traces,
    i: int,
    *,
    start_soc: float = START_SOC,
    n_nodes: int = N_NODES,
    is_stopped: npt.NDArray[np.bool_] | None = None,
) -> Optimum:
    """Plan with hindsight, follow the plan, and bound what could be better.

    Utility is as in `Outcome`: events answered right, less the cost of brown-outs. What is left in the battery at the
    end is worth nothing.

    Args:
        device: what is simulated.
        traces: of them the one that is planned for.
        i: which.
        start_soc: state of charge at the start.
        n_nodes: nodes of charge; more of them narrow the bracket.
        is_stopped: set by another thread when nobody waits any more; shape [1].

    Raises:
        CancelledError: it was stopped.
    """
    stopped = np.zeros(1, np.bool_) if is_stopped is None else is_stopped
    forcing = Forcing.of(device, traces)
    terms = Terms.of(device, forcing.rows[i], step_s=traces.step_s)
    if terms.leak_wh > 0.0:  # the bound holds where no more than a node leaks in a step
        n_nodes = min(n_nodes, int(terms.usable_wh / terms.leak_wh) + 1)
    node_wh = terms.usable_wh / (n_nodes - 1)
    in_nodes: tuple[Any, ...] = (
        terms.needed_wh / node_wh,
        terms.gained_wh / node_wh,
        terms.right,
        terms.dark_wh / node_wh,
        terms.cut_off_wh / node_wh,
        terms.reboot_wh / node_wh,
        terms.leak_wh / node_wh,
        terms.boot_wh / node_wh,
        terms.brown_out_cost,
        n_nodes,
        stopped,
    )
    on, off = bound_values(*in_nodes)
    points = plan(*in_nodes)
    if stopped[0]:
        raise CancelledError
    is_on = start_soc * terms.usable_wh > terms.cut_off_wh[0]
    bound = float(np.interp(start_soc * (n_nodes - 1), np.arange(n_nodes), on if is_on else off))
    total, course = _follow(device, forcing, i, points, start_soc)
    return Optimum(
        attained=float(total[core.UTILITY]),
        bound=bound,
        brown_outs=int(total[core.BROWN_OUT]),
        course=course,
    )


def _follow(
    device: CameraDevice, forcing: Forcing, i: int, points: npt.NDArray[np.uint8], start_soc: float
) -> tuple[Floats, Course]:
    """Totals of the flows, and the course, of a device whose dial follows a plan."""
    n_steps, n_nodes = points.shape
    profile = device.profile
    numbers = core.parameters_of(device, 1, step_s=forcing.step_s)
    state = core.start(numbers, forcing.rows, soc=start_soc, trace=i)
    flows, total = np.empty((1, core.N_FLOWS)), np.zeros(core.N_FLOWS)
    course = Course.empty(n_steps, 1)
    nodes_per_wh = (n_nodes - 1) / numbers[0, core.USABLE_WH]
    for t in range(n_steps):
        u = profile.u[points[t, int(state[0, core.CHARGE_WH] * nodes_per_wh)]][None]
        core.advance(
            state, u, forcing.rows, numbers, profile.u, profile.power_w, profile.accuracy, profile.confidence, flows
        )
        total += flows[0]
        course.keep(t, state, flows, numbers)
    return total, course
