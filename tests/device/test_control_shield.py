"""The reserve shield: the theorem on the compiled core, its place in the chain, and its file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.device.sim_traces import random_traces
from tnn_edge.control import (
    ConstantPolicy,
    Decision,
    Governed,
    GovernorSettings,
    Observation,
    Policy,
    Reserve,
    ReserveShield,
    ThermalCap,
    read_policy,
    read_reserve,
    write_reserve,
)
from tnn_edge.control.reserve import N_SEASONS, season_of
from tnn_edge.errors import ConfigError, InputError
from tnn_edge.plant import Battery, PoweredBoard
from tnn_edge.sim.camera_device import CameraDevice, reference_device
from tnn_edge.sim.climate import read_climate
from tnn_edge.sim.drawing import Surroundings, draw_traces
from tnn_edge.sim.envelope import declare_reserve, known_years, needed_charge_wh
from tnn_edge.sim.forcing import WORKLOAD, Forcing
from tnn_edge.sim.oracle_terms import Terms
from tnn_edge.sim.playing import play
from tnn_edge.sim.traces import Traces

EXAMPLES = Path(__file__).parents[2] / "examples/policies"


class Erratic:
    """A policy that asks for anything at any time."""

    reasons = ("erratic",)
    signals: frozenset[str] = frozenset()

    def initial_state(self, _n: int) -> int:
        return 0

    def decide(self, observation: Observation, state: int) -> tuple[Decision, int]:
        u = np.random.default_rng(state).choice([0.0, 0.3, 1.0], len(observation))
        return Decision(u, np.zeros(len(observation), np.intp)), state + 1


def shielded(policy: Policy[Any], reserve: Reserve, **bounds: Any) -> Governed[Any]:
    return Governed(policy, GovernorSettings(**{"unknown_u": 0.0, **bounds}), ReserveShield(reserve))


def flat(reserve_wh: float, device: CameraDevice | None = None) -> Reserve:
    """The same reserve at all times."""
    device = reference_device() if device is None else device
    traces = random_traces(1, 366 * 24, step_s=3600.0, coldest_c=25.0)
    declared = declare_reserve(device, [replace(traces, step_s=900.0)], horizon_days=0.01)
    return declared.model_copy(update={"reserve_wh": [[reserve_wh] * 24] * N_SEASONS})


def by_slot(device: CameraDevice, traces: Traces, needed: npt.NDArray[np.float64]) -> Reserve:
    """A declared table that holds what these traces need, and nothing on top."""
    table = np.zeros((N_SEASONS, 24))
    np.maximum.at(table, (season_of(traces.day_of_year), traces.hour.astype(int)), needed.max(axis=0))
    return flat(0.0, device).model_copy(update={"reserve_wh": table.tolist()})


def small_device(battery_wh: float) -> CameraDevice:
    battery = Battery(
        usable_wh=battery_wh, discharge_efficiency=0.9, cut_off=0.05, reboot=0.2, self_discharge_per_month=0.1
    )
    return replace(reference_device(panel_w=30.0), board=PoweredBoard(battery=battery))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([30.0, 60.0, 120.0]))
def test_no_policy_can_brown_out_a_device_whose_harvest_is_above_the_declared_envelope(
    seed: int, battery_wh: float
) -> None:
    device = small_device(battery_wh)
    traces = random_traces(8, 400, seed=seed, coldest_c=-5.0)
    needed = needed_charge_wh(device, traces, horizon_days=1000.0)
    fits = (needed <= battery_wh).all(axis=1)
    assume(fits.any())
    rows: dict[str, Any] = {
        name: value[fits] for name, value in vars(traces).items() if isinstance(value, np.ndarray) and value.ndim == 2
    }
    survivable = replace(traces, **rows)
    reserve = by_slot(device, survivable, needed[fits])
    start_soc = np.minimum(needed[fits][:, 0] / battery_wh + 1e-9, 1.0)
    for policy in (ConstantPolicy(1.0), Erratic()):
        outcome, _ = play(device, survivable, shielded(policy, reserve, floor=0.5, max_slew_per_s=1e-5, unknown_u=0.5),
                          start_soc=start_soc)  # fmt: skip
        assert outcome.brown_outs.sum() == 0
        assert outcome.hours_down.sum() == pytest.approx(0.0, abs=1e-9)


def test_where_it_warms_within_a_step_the_charge_lasts_through_the_colder_one() -> None:
    battery = Battery(usable_wh=20.0, discharge_efficiency=1.0, cut_off=0.0, reboot=0.2, cold_loss_per_k=0.02)
    device = replace(reference_device(panel_w=40.0), board=PoweredBoard(battery=battery))
    traces, is_night = random_traces(1, 48), np.arange(48)[None, :] < 12
    air_c = np.where(is_night, 0.0, 20.0)  # at night 8 of 20 Wh cannot be drawn, by day none
    warming = replace(traces, air_c=air_c, irradiance_w_m2=np.where(is_night, 0.0, 1000.0))
    needed = needed_charge_wh(device, warming, horizon_days=1000.0)
    assert needed[0, 12] == 8.0
    assert needed[0, 0] < 16.0
    reserve = by_slot(device, warming, needed)
    for start_wh in needed[0, 0] + np.linspace(0.0, 4.0, 25):
        outcome, _ = play(device, warming, shielded(ConstantPolicy(1.0), reserve), start_soc=start_wh / 20.0 + 1e-9)
        assert outcome.brown_outs.sum() == 0


def test_without_the_shield_the_same_policy_browns_out() -> None:
    device = small_device(30.0)
    traces = random_traces(8, 400, seed=1)
    outcome, _ = play(device, traces, ConstantPolicy(1.0))
    assert outcome.brown_outs.sum() > 0


def test_a_reserve_that_is_too_small_does_not_protect() -> None:
    device = small_device(60.0)
    traces = random_traces(8, 400, seed=3, coldest_c=10.0)
    outcome, _ = play(device, traces, shielded(ConstantPolicy(1.0), flat(0.0, device)))
    assert outcome.brown_outs.sum() > 0


def test_a_declared_reserve_protects_on_days_that_it_was_not_made_from() -> None:
    device, climate = reference_device(battery_wh=120.0), read_climate("miami")
    reserve = declare_reserve(device, [draw_traces(climate, "train", range(4))])
    assert reserve.is_sufficient
    traces = draw_traces(climate, "test", range(3))
    bare, _ = play(device, traces, ConstantPolicy(1.0))
    safe, _ = play(device, traces, shielded(ConstantPolicy(1.0), reserve))
    assert bare.brown_outs.sum() > 0
    assert safe.brown_outs.sum() == 0
    assert safe.right.sum() > bare.right.sum()


def observation(**signals: float) -> Observation:
    seen: dict[str, Any] = {"soc": 0.5, "hour": 12.0, "day_of_year": 100.0, **signals}
    return Observation.of(time_s=0.0, **seen)


def first_u(governed: Governed[Any], seen: Observation) -> tuple[float, str]:
    decision, _ = governed.decide(seen, governed.initial_state(len(seen)))
    return float(decision.u[0]), governed.reasons[int(decision.reason[0])]


def test_the_largest_point_that_leaves_the_reserve_is_let_pass() -> None:
    reserve = flat(50.0)
    needed = reserve.needed_wh()
    for k in (0, 5, 16):
        just = (50.0 + needed[k]) / 120.0
        governed = shielded(ConstantPolicy(1.0), reserve)
        assert first_u(governed, observation(soc=just + 1e-9))[0] == reserve.u[k]
        assert first_u(governed, observation(soc=just - 1e-6))[0] == reserve.u[max(k - 1, 0)]


def test_the_shield_has_the_last_word_over_floor_slew_and_thermal_cap() -> None:
    cap = ThermalCap(above_c=80.0, until_c=70.0, u=0.8)
    governed = shielded(ConstantPolicy(1.0), flat(110.0), floor=0.6, unknown_u=0.6, max_slew_per_s=0.001, thermal=cap)
    _, state = governed.decide(observation(soc=1.0), governed.initial_state(1))
    later = replace(observation(soc=0.5), time_s=1.0)
    decision, _ = governed.decide(later, state)
    assert decision.u[0] == 0.0
    assert governed.reasons[int(decision.reason[0])] == "shield"


def test_a_policy_that_asks_for_less_keeps_its_own_reason() -> None:
    assert first_u(shielded(ConstantPolicy(0.25), flat(10.0)), observation()) == (0.25, "constant")


@pytest.mark.parametrize("signal", ["soc", "hour", "day_of_year"])
def test_what_is_unknown_is_not_safe(signal: str) -> None:
    governed = shielded(ConstantPolicy(1.0), flat(0.0))
    assert first_u(governed, observation(**{signal: np.nan})) == (0.0, "shield")


def test_the_reserve_is_that_of_the_end_of_the_period_over_midnight_and_new_year() -> None:
    reserve = flat(0.0)
    table = np.zeros((N_SEASONS, 24))
    table[0, 0] = 119.0
    reserve = reserve.model_copy(update={"reserve_wh": table.tolist()})
    governed = shielded(ConstantPolicy(1.0), reserve)
    assert first_u(governed, observation(hour=23.9, day_of_year=366.0)) == (0.0, "shield")
    assert first_u(governed, observation(hour=23.9, day_of_year=200.0)) == (1.0, "constant")


def test_a_file_gives_back_the_reserve(tmp_path: Path) -> None:
    reserve = flat(12.5)
    write_reserve(tmp_path / "r.json", reserve)
    assert read_reserve(tmp_path / "r.json") == reserve


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_every_kind_of_policy_takes_a_shield(example: Path, tmp_path: Path) -> None:
    write_reserve(tmp_path / "reserve.json", flat(119.0))
    path = tmp_path / "policy.toml"
    path.write_text(example.read_text() + '\n[shield]\nreserve = "reserve.json"\n')
    governed = read_policy(path)
    assert governed.shield is not None
    assert {"soc", "hour", "day_of_year"} <= governed.signals
    everything = observation(soc=0.9, lux=1000.0, workload=0.9, power_in_w=30.0, confidence=0.8, temperature_c=30.0)
    assert first_u(governed, everything)[0] == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text[: len(text) // 2], r"r\.json is no reserve file; tnn-edge reserve makes one"),
        (lambda text: text.replace("12.5", "13.5"), r"r\.json is damaged, or was changed by hand"),
        (lambda text: "[]", r"r\.json is no reserve file"),
    ],
)
def test_a_faulty_reserve_is_refused(change: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    write_reserve(path, flat(12.5))
    path.write_text(change(path.read_text()))
    with pytest.raises(ConfigError, match=message):
        read_reserve(path)


def test_a_policy_whose_reserve_is_missing_is_refused_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[constant]\nu = 1.0\n[governor]\nunknown_u = 0.0\n[shield]\nreserve = "r.json"\n')
    with pytest.raises(ConfigError, match=r"policy\.toml:6: shield\.reserve: there is no file .*r\.json"):
        read_policy(path)


def test_a_policy_made_for_other_signals_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('observation_hash = "00"\n[constant]\nu = 1.0\n[governor]\nunknown_u = 0.0\n')
    with pytest.raises(ConfigError, match=r"policy\.toml:1: observation_hash: the policy was made for other signals"):
        read_policy(path)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.02, 0.7, 1.3, 50.0]), st.booleans())
def test_what_is_needed_is_the_worst_of_all_that_comes_within_the_horizon(
    seed: int, horizon_days: float, is_round: bool
) -> None:
    device, traces = small_device(60.0), random_traces(1, 150, seed=seed, step_s=900.0, coldest_c=-5.0)
    needed = needed_charge_wh(device, traces, horizon_days=horizon_days, is_round=is_round)[0]
    one_step = needed_charge_wh(device, traces, horizon_days=0.001)[0]
    cut_off_wh = device.board.battery.cut_off_wh(traces.air_c[0])
    rows = Forcing.of(device, traces).rows[0].copy()
    rows[:, WORKLOAD] = 1.0
    terms = Terms.of(device, rows, step_s=900.0)
    loss_wh = terms.needed_wh[:, 0] - terms.gained_wh[:, 0] + terms.leak_wh
    after_wh = np.maximum(cut_off_wh, np.append(cut_off_wh[1:], cut_off_wh[-1]))
    before_wh = np.append(cut_off_wh[0], after_wh[:-1])
    np.testing.assert_allclose(one_step, np.maximum(after_wh + loss_wh, before_wh), atol=1e-9)
    n_ahead = min(max(round(horizon_days * 96), 1), 150)
    for t in (0, 40, 149):
        last = 149 if is_round else 0
        spent, worst = 0.0, max(cut_off_wh[t], cut_off_wh[t - 1 if t > 0 else last])
        for k in range(t, t + n_ahead if is_round else min(t + n_ahead, 150)):
            spent += loss_wh[k % 150]
            following = cut_off_wh[(k + 1) % 150] if is_round or k < 149 else 0.0
            worst = max(worst, spent + cut_off_wh[k % 150], spent + following)
        assert needed[t] == pytest.approx(worst, abs=1e-7)


def test_a_reserve_looks_four_times_as_far_as_a_full_battery_lasts_without_sun() -> None:
    device, climate = reference_device(battery_wh=120.0), read_climate("greensboro")
    weather = known_years(climate, 2, seed=5, step_s=3600.0, surroundings=Surroundings())
    assert [len(years) for years in weather] == [1, 1]
    lasts_days = 120.0 / (2.2 / 0.9 / 0.97 + device.board.battery.self_discharge_w) / 24.0
    declared = declare_reserve(device, weather).reserve_wh
    assert declared == declare_reserve(device, weather, horizon_days=4.0 * lasts_days).reserve_wh
    assert declared != declare_reserve(device, weather, horizon_days=0.5 * lasts_days).reserve_wh


def test_the_years_of_a_reserve_are_of_no_day_for_tests_where_there_are_others() -> None:
    climate = read_climate("miami")
    some = Surroundings()
    train, validation = known_years(climate, 3, seed=7, step_s=3600.0, surroundings=some)
    np.testing.assert_array_equal(
        train.irradiance_w_m2, draw_traces(climate, "train", [7, 9], step_s=3600.0).irradiance_w_m2
    )
    np.testing.assert_array_equal(
        validation.irradiance_w_m2, draw_traces(climate, "validation", [8], step_s=3600.0).irradiance_w_m2
    )
    (kept,) = known_years(read_climate("sand_point"), 2, seed=7, step_s=3600.0, surroundings=some)
    assert len(kept) == 2


def test_a_reserve_needs_a_whole_year() -> None:
    traces = draw_traces(read_climate("miami"), "train", [0], n_days=60)
    with pytest.raises(InputError, match=r"miami: there is no day of season \d+ of 36; draw whole years"):
        declare_reserve(reference_device(), [traces])
