"""The compiled step of the environment: action to throttle, the core, and what is observed after it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from tnn_edge.control import PricePolicy, Reserve
from tnn_edge.sim import core
from tnn_edge.sim.core import CHARGE_WH, CONFIDENCE, IS_ON, LAST_U, POWER_IN_W, STEP, TEMPERATURE_C, TRACE, USABLE_WH
from tnn_edge.sim.forcing import WORKLOAD
from tnn_edge.sim.traces import Traces

__all__ = [
    "FEATURES",
    "MEMORY",
    "N_SIGNALS",
    "OVERRIDE",
    "RESIDUAL_SCALE",
    "begin",
    "rule_numbers",
    "signals_of",
    "step_all",
]

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]

FEATURES = (
    "soc",
    "is_on",
    "power_in",
    "harvest_1d",
    "harvest_3d",
    "lux",
    "confidence",
    "workload",
    "temperature",
    "hour_sin",
    "hour_cos",
    "day_sin",
    "day_cos",
    "capacity",
    "last_u",
    "log_price",
)
"""What is observed, in this order; the environment's docstring says how each is scaled."""

RESIDUAL_SCALE = 2.5
"""What an action of 1 adds to the natural logarithm of the price."""

RULE, DAY_1, DAY_3, LOG_PRICE, OVERRIDE = range(5)
MEMORY = 5
"""Columns of what is remembered beside the device's state: averages of the income, the rule's log-price, and whether
the shield was stricter than the action."""

LIGHT_LEVEL, LOG_LUX, HOUR_SIN, HOUR_COS, DAY_SIN, DAY_COS, RESERVE_WH = range(7)
N_SIGNALS = 7
"""Columns of what is seen of a trace besides its `Forcing`."""

(
    LOG_PRICE_AT_ZERO,
    SLOPE,
    TARGET,
    BATTERY_WH,
    HORIZON_H,
    EFFICIENCY,
    RULE_IDLE_W,
    COMPUTE_W,
    BASE_WORKLOAD,
    FULL_EVENTS,
    GAIN_RULE,
    GAIN_1D,
    GAIN_3D,
    EXPECTED_W,
) = range(14)


def rule_numbers(rule: PricePolicy, *, step_s: float) -> Floats:
    """The numbers of a price rule, and of the averages of a step."""
    numbers = np.empty(14)
    numbers[LOG_PRICE_AT_ZERO], numbers[SLOPE] = math.log(rule.price_at_zero_per_wh), rule.price_slope
    numbers[TARGET], numbers[BATTERY_WH], numbers[HORIZON_H] = rule.target_soc, rule.battery_wh, rule.horizon_h
    numbers[EFFICIENCY], numbers[RULE_IDLE_W] = rule.converter_efficiency, rule.profile.idle_w
    numbers[COMPUTE_W] = rule.profile.power_w[-1]
    numbers[BASE_WORKLOAD], numbers[FULL_EVENTS] = rule.base_workload, rule.full_events_per_h
    for column, hours in ((GAIN_RULE, rule.harvest_time_constant_h), (GAIN_1D, 24.0), (GAIN_3D, 72.0)):
        numbers[column] = 1.0 - np.exp(-step_s / (3600.0 * hours))
    numbers[EXPECTED_W] = rule.expected_harvest_w
    return numbers


def signals_of(rule: PricePolicy, traces: Traces, reserve: Reserve | None) -> Floats:
    """What is seen of traces besides their `Forcing`; the reserve, -inf where there is none, is that at a step's end.

    Args:
        rule: that an action corrects.
        traces: n of them.
        reserve: that a shield keeps; None for no shield.

    Returns:
        Shape [n, n_steps, N_SIGNALS].
    """
    signals = np.empty((*traces.lux.shape, N_SIGNALS))
    signals[..., LIGHT_LEVEL] = rule.profile.level_at(traces.lux)
    signals[..., LOG_LUX] = np.clip((np.log10(np.maximum(traces.lux, 1e-2)) - 1.5) / 3.5, -1.0, 1.0)
    hour, day = 2.0 * np.pi * traces.start_hour / 24.0, 2.0 * np.pi * (traces.day_of_year - 1.0) / 365.0
    signals[..., HOUR_SIN], signals[..., HOUR_COS] = np.sin(hour), np.cos(hour)
    signals[..., DAY_SIN], signals[..., DAY_COS] = np.sin(day), np.cos(day)
    signals[..., RESERVE_WH] = (
        -np.inf if reserve is None else reserve.at(traces.day_of_year, traces.start_hour + traces.step_s / 3600.0)
    )
    return signals


@njit(cache=True)
def begin(
    state: Floats,
    memory: Floats,
    rows: Floats,
    signals: Floats,
    parameters: Floats,
    rule: Floats,
    observation: Floats32,
) -> None:
    """Forget the past of n devices, and observe them; arguments as in `step_all`."""
    for i in range(state.shape[0]):
        memory[i, RULE] = memory[i, DAY_1] = memory[i, DAY_3] = rule[EXPECTED_W]
    _observe(state, memory, rows, signals, parameters, rule, observation)


@njit(cache=True)
def step_all(
    action: Floats,
    is_direct: bool,
    state: Floats,
    memory: Floats,
    u: Floats,
    rows: Floats,
    signals: Floats,
    parameters: Floats,
    rule: Floats,
    points_u: Floats,
    points_w: Floats,
    accuracy: Floats,
    confidence: Floats,
    shield_wh: Floats,
    flows: Floats,
    observation: Floats32,
) -> None:
    """Take n devices through one step.

    Args:
        action: in [-1, 1], shape [n]; beyond it is cut off.
        is_direct: whether it is u, and not a correction of the log-price.
        state: of the core, shape [n, N_STATES]; changed.
        memory: shape [n, MEMORY]; changed.
        u: throttle that was asked for, shape [n]; filled.
        rows: of a `Forcing`.
        signals: of `signals_of`.
        parameters: of the core, shape [n, N_PARAMETERS].
        rule: of `rule_numbers`.
        points_u: operating points of the profile, shape [n_points].
        points_w: their power.
        accuracy: theirs by light, shape [n_points, n_levels].
        confidence: likewise.
        shield_wh: charge that a step takes at each operating point without sun, `Reserve.needed_wh`; shape [n_points].
        flows: of the core, shape [n, N_FLOWS]; filled.
        observation: after the step, shape [n, len(FEATURES)]; filled.
    """
    for i in range(state.shape[0]):
        asked = min(max(action[i], -1.0), 1.0)
        trace, step = np.uintp(state[i, TRACE]), np.uintp(state[i, STEP])
        if is_direct:
            u[i] = 0.5 * (asked + 1.0)
        else:
            # As PricePolicy and MarginalValue.decide.
            price = np.exp(memory[i, LOG_PRICE] + RESIDUAL_SCALE * asked)
            workload = rows[trace, step, WORKLOAD]
            events = rule[FULL_EVENTS] * (max(workload - rule[BASE_WORKLOAD], 0.0) / (1.0 - rule[BASE_WORKLOAD]))
            low = min(int(signals[trace, step, LIGHT_LEVEL]), accuracy.shape[1] - 2)
            share = signals[trace, step, LIGHT_LEVEL] - low
            best, best_worth = 0, -np.inf
            for a in range(points_u.shape[0]):
                right = accuracy[a, low] + share * (accuracy[a, low + 1] - accuracy[a, low])
                worth = events * right - price * workload * points_w[a]
                if worth > best_worth:
                    best, best_worth = a, worth
            u[i] = points_u[best]
        # As ReserveShield.limited.
        safe = points_u.shape[0] - 1
        while safe > 0 and state[i, CHARGE_WH] - shield_wh[safe] < signals[trace, step, RESERVE_WH]:
            safe -= 1
        memory[i, OVERRIDE] = 0.0
        if safe < points_u.shape[0] - 1 and points_u[safe] < u[i]:
            u[i] = points_u[safe]
            memory[i, OVERRIDE] = 1.0
    core.advance(state, u, rows, parameters, points_u, points_w, accuracy, confidence, flows)
    for i in range(state.shape[0]):
        income = state[i, POWER_IN_W]
        memory[i, RULE] += rule[GAIN_RULE] * (income - memory[i, RULE])
        memory[i, DAY_1] += rule[GAIN_1D] * (income - memory[i, DAY_1])
        memory[i, DAY_3] += rule[GAIN_3D] * (income - memory[i, DAY_3])
    _observe(state, memory, rows, signals, parameters, rule, observation)


@njit(cache=True)
def _observe(
    state: Floats,
    memory: Floats,
    rows: Floats,
    signals: Floats,
    parameters: Floats,
    rule: Floats,
    observation: Floats32,
) -> None:
    """Work out the rule's log-price and fill the observation."""
    for i in range(state.shape[0]):
        trace, step = np.uintp(state[i, TRACE]), np.uintp(state[i, STEP])
        k = np.uintp(i if parameters.shape[0] > 1 else 0)
        soc = state[i, CHARGE_WH] / parameters[k, USABLE_WH]
        surplus_w = (soc - rule[TARGET]) * rule[BATTERY_WH] / rule[HORIZON_H]
        budget_w = (memory[i, RULE] + surplus_w) * rule[EFFICIENCY] - rule[RULE_IDLE_W]
        share = min(max(budget_w / rule[COMPUTE_W], -1.0), 1.0)
        memory[i, LOG_PRICE] = rule[LOG_PRICE_AT_ZERO] - rule[SLOPE] * share
        income, certain, last_u = state[i, POWER_IN_W], state[i, CONFIDENCE], state[i, LAST_U]
        observation[i, 0] = 2.0 * soc - 1.0
        observation[i, 1] = 2.0 * state[i, IS_ON] - 1.0
        observation[i, 2] = -1.0 if np.isnan(income) else min(income / 50.0, 2.0) - 1.0
        observation[i, 3] = min(memory[i, DAY_1] / 10.0, 2.0) - 1.0
        observation[i, 4] = min(memory[i, DAY_3] / 10.0, 2.0) - 1.0
        observation[i, 5] = signals[trace, step, LOG_LUX]
        observation[i, 6] = -1.0 if np.isnan(certain) else 2.0 * certain - 1.0
        observation[i, 7] = 2.0 * rows[trace, step, WORKLOAD] - 1.0
        observation[i, 8] = min(max((state[i, TEMPERATURE_C] - 20.0) / 80.0, -1.0), 1.0)
        observation[i, 9] = signals[trace, step, HOUR_SIN]
        observation[i, 10] = signals[trace, step, HOUR_COS]
        observation[i, 11] = signals[trace, step, DAY_SIN]
        observation[i, 12] = signals[trace, step, DAY_COS]
        observation[i, 13] = min(max(np.log10(parameters[k, USABLE_WH]) - 2.0, -1.0), 1.0)
        observation[i, 14] = -1.0 if np.isnan(last_u) else 2.0 * last_u - 1.0
        observation[i, 15] = min(max((memory[i, LOG_PRICE] - 3.0) / 8.0, -1.0), 1.0)
