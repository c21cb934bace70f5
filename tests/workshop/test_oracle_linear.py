"""Without hysteresis the optimum is a linear programme, which a solver of somebody else's confirms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from tests.device.sim_traces import random_traces
from tnn_edge.plant import Battery, Converter, PoweredBoard
from tnn_edge.sim.camera_device import reference_device
from tnn_edge.sim.forcing import Forcing
from tnn_edge.sim.oracle import find_optimum
from tnn_edge.sim.oracle_terms import Terms


@pytest.mark.parametrize("seed", range(6))
def test_the_bracket_holds_the_linear_optimum(seed: int) -> None:
    """Shares of a step at each operating point are free, the battery has no loss, and u = 0 costs nothing.

    Then an empty battery only means u = 0, so nothing jumps; and the accuracy is concave in the energy, so that sharing
    a step between two points gains no more than the steps of the dial are wide.
    """
    battery = Battery(usable_wh=10.0, charge_efficiency=1.0, discharge_efficiency=1.0, reboot=0.01, cold_loss_per_k=0.0)
    device = reference_device(panel_w=20.0)
    device = replace(
        device,
        profile=replace(device.profile, idle_w=0.0),
        board=PoweredBoard(battery=replace(battery, min_charge_c=-100.0), converter=Converter(efficiency=1.0)),
    )
    n_steps, start_soc = 48, 0.5
    traces = random_traces(1, n_steps, seed=seed, step_s=3600.0)
    terms = Terms.of(device, Forcing.of(device, traces).rows[0], step_s=3600.0)
    n_points = device.profile.u.size
    net_wh = terms.gained_wh - terms.needed_wh  # [n_steps, n_points]

    # Variables: the share of each point in each step, then what is spilled in each step.
    n_shares = n_steps * n_points
    before = np.zeros((n_steps, n_shares + n_steps))
    for t in range(n_steps):
        before[t:, t * n_points : (t + 1) * n_points] = net_wh[t]
        before[t:, n_shares + t] = -1.0
    one = np.zeros((n_steps, n_shares + n_steps))
    for t in range(n_steps):
        one[t, t * n_points : (t + 1) * n_points] = 1.0
    start_wh = start_soc * 10.0
    solved = linprog(
        np.concatenate([-terms.right.ravel(), np.zeros(n_steps)]),
        A_ub=np.concatenate([before, -before]),
        b_ub=np.concatenate([np.full(n_steps, 10.0 - start_wh), np.full(n_steps, start_wh)]),
        A_eq=one,
        b_eq=np.ones(n_steps),
        bounds=(0.0, None),
    )
    assert solved.success
    optimum = find_optimum(device, traces, 0, start_soc=start_soc, n_nodes=4001)
    assert optimum.brown_outs == 0
    assert optimum.attained <= -solved.fun + 1e-6
    assert optimum.bound == pytest.approx(-solved.fun, rel=3e-3)
    assert optimum.attained == pytest.approx(-solved.fun, rel=3e-3)
