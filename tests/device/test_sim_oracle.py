"""The optimum in hindsight: against every plan there is, against linear programming, against what it may not do."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.device.sim_traces import random_traces
from tnn_edge.control import ConstantPolicy, DeviceProfile, PricePolicy, SocRampPolicy
from tnn_edge.plant import Battery, PoweredBoard
from tnn_edge.sim import core, oracle
from tnn_edge.sim.camera_device import CameraDevice, reference_device
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import draw_traces
from tnn_edge.sim.forcing import Forcing
from tnn_edge.sim.oracle import find_optimum
from tnn_edge.sim.playing import play
from tnn_edge.sim.traces import Traces

Floats = npt.NDArray[np.float64]


def coarse(n_points: int) -> DeviceProfile:
    """The reference profile with few operating points."""
    profile = reference_device().profile
    rows = np.linspace(0, 16, n_points).astype(int)
    return replace(
        profile,
        u=profile.u[rows],
        power_w=profile.power_w[rows],
        accuracy=profile.accuracy[rows],
        confidence=profile.confidence[rows],
    )


def tiny_device(*, battery_wh: float = 6.0, n_points: int = 3, cost: float = 5.0) -> CameraDevice:
    """Runs empty and full within hours, and loses power in most of what can be done with it."""
    battery = Battery(
        usable_wh=battery_wh,
        charge_efficiency=0.9,
        discharge_efficiency=0.9,
        cut_off=0.1,
        reboot=0.4,
        self_discharge_per_month=0.3,
        boot_wh=0.2,
    )
    device = reference_device(panel_w=20.0)
    return replace(device, profile=coarse(n_points), board=PoweredBoard(battery=battery), brown_out_cost_events=cost)


def utilities(device: CameraDevice, traces: Traces, plans: Floats, *, start_soc: float) -> Floats:
    """Utility of each plan on the first trace, shape [n_plans]; plans of shape [n_plans, n_steps]."""
    forcing, p = Forcing.of(device, traces), device.profile
    parameters = core.parameters_of(device, len(plans), step_s=traces.step_s)
    state = core.start(parameters, forcing.rows, soc=start_soc, trace=0)
    flows, total = np.empty((len(plans), core.N_FLOWS)), np.zeros(len(plans))
    for t in range(plans.shape[1]):
        u = np.ascontiguousarray(plans[:, t])
        core.advance(state, u, forcing.rows, parameters, p.u, p.power_w, p.accuracy, p.confidence, flows)
        total += flows[:, core.UTILITY]
    return total


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.11, 1.0), st.sampled_from([0.0, 5.0, 100.0]))
def test_the_best_of_all_plans_lies_between_what_is_attained_and_the_bound(
    seed: int, start_soc: float, cost: float
) -> None:
    device = tiny_device(cost=cost)
    traces = random_traces(1, 7, seed=seed, step_s=3600.0)
    plans = np.array(list(itertools.product(device.profile.u, repeat=7)))
    best = utilities(device, traces, plans, start_soc=start_soc).max()
    optimum = find_optimum(device, traces, 0, start_soc=start_soc, n_nodes=2001)
    assert optimum.attained <= best + 1e-9
    assert best <= optimum.bound + 1e-9
    coarser = find_optimum(device, traces, 0, start_soc=start_soc, n_nodes=11)
    assert best <= coarser.bound + 1e-9


def test_a_fine_grid_finds_the_best_of_all_plans() -> None:
    device = tiny_device()
    shares = []
    for seed in range(40):
        traces = random_traces(1, 7, seed=seed, step_s=3600.0)
        plans = np.array(list(itertools.product(device.profile.u, repeat=7)))
        best = utilities(device, traces, plans, start_soc=0.6).max()
        optimum = find_optimum(device, traces, 0, start_soc=0.6, n_nodes=8001)
        shares.append(((best - optimum.attained) / abs(best), (optimum.bound - best) / abs(best)))
    assert np.median(shares, axis=0) == pytest.approx([0.0, 0.0], abs=0.01)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([6.0, 40.0]), st.integers(11, 301))
def test_no_plan_exceeds_the_bound_however_coarse_its_grid(seed: int, battery_wh: float, n_nodes: int) -> None:
    device = tiny_device(battery_wh=battery_wh, n_points=5)
    traces = random_traces(1, 200, seed=seed)
    plans = np.random.default_rng(seed).choice(device.profile.u, (64, 200))
    optimum = find_optimum(device, traces, 0, start_soc=0.5, n_nodes=n_nodes)
    assert utilities(device, traces, plans, start_soc=0.5).max() <= optimum.bound + 1e-9
    assert optimum.attained <= optimum.bound + 1e-9


@pytest.mark.parametrize(("site", "battery_wh"), [("miami", 120.0), ("greensboro", 40.0), ("sand_point", 40.0)])
def test_no_policy_exceeds_the_bound_and_the_bracket_is_narrow(site: str, battery_wh: float) -> None:
    device = reference_device(battery_wh=battery_wh)
    traces = draw_traces(read_climate(site), "test", [0], n_days=60)
    optimum = find_optimum(device, traces, 0)
    assert optimum.gap is not None
    assert optimum.gap < 0.04  # January and February; a whole year is below 0.01
    for policy in (
        ConstantPolicy(0.0),
        ConstantPolicy(1.0),
        SocRampPolicy(),
        PricePolicy(battery_wh=battery_wh, expected_harvest_w=4.0),
    ):
        outcome, _ = play(device, traces, policy)
        assert outcome.utility[0] <= optimum.bound
        assert outcome.utility[0] < optimum.attained


def test_a_fuller_battery_is_never_worth_less_where_both_have_power() -> None:
    device = reference_device(battery_wh=40.0)
    traces = draw_traces(read_climate("greensboro"), "test", [1], n_days=5)
    values = [find_optimum(device, traces, 0, start_soc=soc, n_nodes=1001).attained for soc in np.linspace(0.3, 1, 8)]
    assert (np.diff(values) >= -1e-6 * values[-1]).all()


def test_the_dearer_a_brown_out_the_less_is_attained_and_the_fewer_there_are() -> None:
    traces = draw_traces(read_climate("greensboro"), "test", [1], n_days=20)
    optima = [
        find_optimum(replace(reference_device(battery_wh=20.0), brown_out_cost_events=cost), traces, 0, n_nodes=1001)
        for cost in (0.0, 20.0, 200.0)
    ]
    assert all(b.attained <= a.attained for a, b in itertools.pairwise(optima))
    assert all(b.brown_outs <= a.brown_outs for a, b in itertools.pairwise(optima))
    assert optima[0].brown_outs > optima[-1].brown_outs


def test_the_plan_earns_on_the_device_what_its_course_says() -> None:
    device = reference_device(battery_wh=40.0)
    traces = draw_traces(read_climate("miami"), "test", [0], n_days=10)
    optimum = find_optimum(device, traces, 0, n_nodes=501)
    cost = device.brown_out_cost_events * optimum.brown_outs
    assert optimum.attained == pytest.approx(optimum.course.right.sum() - cost, rel=1e-12)


@pytest.mark.parametrize("is_stopped", [False, True])
def test_a_search_that_is_stopped_works_nothing_out(is_stopped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[float] = []

    def kept(search: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            answer = search(*arguments)
            found.append(np.abs(np.stack(answer)).max())
            return answer

        return run

    for name in ("bound_values", "plan"):
        monkeypatch.setattr(oracle, name, kept(getattr(oracle, name)))
    traces = draw_traces(read_climate("miami"), "test", [0], n_days=2)
    with pytest.raises(CancelledError) if is_stopped else nullcontext():
        find_optimum(reference_device(), traces, 0, n_nodes=101, is_stopped=np.array([is_stopped]))
    assert [largest > 0.0 for largest in found] == [not is_stopped] * 2
