"""The compiled core against the plant that it repeats, and against itself one by one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.device.sim_traces import random_traces
from tnn_edge.plant import Battery, Converter, PoweredBoard, ThermalNode, ThermalThrottle
from tnn_edge.sim import core
from tnn_edge.sim.camera_device import CameraDevice, reference_device
from tnn_edge.sim.forcing import Forcing
from tnn_edge.sim.traces import Traces
from tnn_edge.sim.workload import Workload

Floats = npt.NDArray[np.float64]

STEP_S = 900.0


def hard_device() -> CameraDevice:
    """A device that runs empty, full, hot and cold within hours, and loses energy everywhere."""
    battery = Battery(
        usable_wh=12.0,
        charge_efficiency=0.9,
        discharge_efficiency=0.93,
        cut_off=0.05,
        reboot=0.3,
        max_charge_w=15.0,
        self_discharge_per_month=0.3,
        boot_wh=0.4,
    )
    board = PoweredBoard(
        battery=battery,
        converter=Converter(efficiency=0.8, standby_w=0.1),
        thermal=ThermalNode(resistance_k_per_w=5.0, time_constant_s=700.0),
        throttle=ThermalThrottle(above_c=60.0, until_c=50.0, u=0.3),
    )
    return replace(reference_device(), board=board)


def run(device: CameraDevice, traces: Traces, u: Floats, *, soc: float = 0.5) -> tuple[Floats, Floats]:
    """States after each step and flows of it, shapes [n_steps, n, ...]; u has shape [n_steps, n]."""
    forcing = Forcing.of(device, traces)
    parameters = core.parameters_of(device, len(traces), step_s=STEP_S)
    state = core.start(parameters, forcing.rows, soc=soc, trace=np.arange(len(traces)))
    states = np.empty((len(u), *state.shape))
    flows = np.empty((len(u), len(traces), core.N_FLOWS))
    p = device.profile
    for t in range(len(u)):
        core.advance(state, u[t], forcing.rows, parameters, p.u, p.power_w, p.accuracy, p.confidence, flows[t])
        states[t] = state
    return states, flows


@pytest.mark.parametrize("device", [reference_device(battery_wh=40.0), hard_device()], ids=["reference", "hard"])
def test_the_core_does_what_the_plant_does(device: CameraDevice) -> None:
    n, n_steps = 32, 600
    traces = random_traces(n, n_steps)
    u = np.random.default_rng(1).random((n_steps, n))
    states, flows = run(device, traces, u)
    board, profile = device.board, device.profile
    state = board.state(np.full(n, 0.5), traces.air_c[:, 0])
    for t in range(n_steps):
        served = profile.point_at(board.served_u(u[t], state))
        workload = device.workload.share(traces.events_per_h[:, t])
        air_c = traces.air_c[:, t]
        state, flow = board.step(
            state,
            panel_w=device.panel.power_w(traces.irradiance_w_m2[:, t], air_c),
            load_w=profile.idle_w + profile.power_w[served] * workload,
            air_c=air_c,
            seconds=STEP_S,
        )
        accuracy = profile.accuracy_at(traces.scene_lux[:, t])[np.arange(n), served]
        events = np.minimum(traces.events_per_h[:, t], device.workload.full_events_per_h)
        columns: dict[int, npt.NDArray[Any]] = {
            core.ON_SHARE: flow.on_share,
            core.LOAD_WH: flow.load_wh,
            core.BOOT_WH: flow.boot_wh,
            core.PANEL_WH: flow.panel_wh,
            core.SPILLED_WH: flow.spilled_wh,
            core.LOST_WH: flow.lost_wh,
            core.BROWN_OUT: flow.is_brown_out,
            core.SERVED_U: profile.u[served],
            core.RIGHT: events * flow.on_share * accuracy * STEP_S / 3600.0,
        }
        for column, expected in columns.items():
            np.testing.assert_allclose(flows[t, :, column], expected, rtol=1e-12, atol=1e-12, err_msg=f"{t} {column}")
        columns = {
            core.CHARGE_WH: state.battery.charge_wh,
            core.IS_ON: state.battery.is_on,
            core.TEMPERATURE_C: state.temperature_c,
            core.IS_HOT: state.is_hot,
        }
        for column, expected in columns.items():
            np.testing.assert_allclose(states[t, :, column], expected, rtol=1e-12, atol=1e-12, err_msg=f"{t} {column}")
        # From the same state again: what is compared is a step, not how rounding adds up.
        state = replace(
            state,
            battery=replace(state.battery, charge_wh=states[t, :, core.CHARGE_WH].copy()),
            temperature_c=states[t, :, core.TEMPERATURE_C].copy(),
        )
    assert flows[..., core.BROWN_OUT].sum() > 0
    if device.board.throttle.above_c < 95.0:
        assert states[..., core.IS_HOT].any()


def test_no_energy_appears_or_is_lost() -> None:
    n, n_steps = 64, 1000
    device = hard_device()
    states, flows = run(device, random_traces(n, n_steps, seed=2), np.random.default_rng(3).random((n_steps, n)))
    before = np.concatenate([np.full((1, n), 0.5 * 12.0), states[:-1, :, core.CHARGE_WH]])
    stored = states[..., core.CHARGE_WH] - before
    spent = flows[..., [core.LOAD_WH, core.BOOT_WH, core.LOST_WH, core.SPILLED_WH]].sum(axis=-1)
    np.testing.assert_allclose(spent + stored, flows[..., core.PANEL_WH], rtol=0, atol=1e-9)


def test_a_device_alone_gives_the_same_bits_as_among_others() -> None:
    n, n_steps = 64, 1000
    device = hard_device()
    traces = random_traces(n, n_steps, seed=4)
    u = np.random.default_rng(5).random((n_steps, n))
    states, flows = run(device, traces, u)
    forcing, p = Forcing.of(device, traces), device.profile
    for i in range(0, n, 7):
        parameters = core.parameters_of(device, 1, step_s=STEP_S)
        state = core.start(parameters, forcing.rows, soc=0.5, trace=i)
        flow = np.empty((1, core.N_FLOWS))
        for t in range(n_steps):
            core.advance(
                state, u[t, i : i + 1], forcing.rows, parameters, p.u, p.power_w, p.accuracy, p.confidence, flow
            )
            assert state.tobytes() == states[t, i : i + 1].tobytes()
            assert flow.tobytes() == flows[t, i : i + 1].tobytes()


def test_what_a_policy_may_know_is_unknown_after_a_step_in_the_dark() -> None:
    device = hard_device()
    states, flows = run(device, random_traces(8, 400, seed=6), np.ones((400, 8)))
    dark = (states[..., core.IS_ON] == 0.0) | (flows[..., core.ON_SHARE] == 0.0)
    assert dark.any()
    assert not dark.all()
    for column in (core.LAST_U, core.CONFIDENCE):
        np.testing.assert_array_equal(np.isnan(states[..., column]), dark)


def test_a_brown_out_costs_what_the_device_says() -> None:
    device = replace(hard_device(), brown_out_cost_events=7.0)
    _, flows = run(device, random_traces(8, 400, seed=7), np.ones((400, 8)))
    np.testing.assert_array_equal(flows[..., core.UTILITY], flows[..., core.RIGHT] - 7.0 * flows[..., core.BROWN_OUT])


def test_work_beyond_what_full_computing_answers_is_not_answered() -> None:
    device = replace(reference_device(), workload=Workload(base_share=0.5, full_events_per_h=10.0))
    traces = random_traces(4, 10, seed=8)
    _, flows = run(device, traces, np.ones((10, 4)), soc=1.0)
    assert (flows[..., core.RIGHT] <= 10.0 * STEP_S / 3600.0).all()
