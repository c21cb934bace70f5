"""The compiled core: one step of time for n devices, which may stand at different steps of different traces.

What it computes is what `tnn_edge.plant` computes in numpy, with which tests compare it to 1e-12 of a step. A device's
result does not hang on its neighbours: one device alone gives the same bits.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from numba import njit

from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.forcing import (
    AIR_C,
    CAN_CHARGE,
    CONFIDENCE_Z,
    EVENTS_PER_H,
    FROZEN,
    LEVEL,
    PANEL,
    WORKLOAD,
)

__all__ = [
    "BOOT_WH",
    "BROWN_OUT",
    "CHARGE_WH",
    "CONFIDENCE",
    "IDLE_W",
    "IS_HOT",
    "IS_ON",
    "LAST_U",
    "LOAD_WH",
    "LOST_WH",
    "N_FLOWS",
    "N_PARAMETERS",
    "N_STATES",
    "ON_SHARE",
    "PANEL_WH",
    "POWER_IN_W",
    "RATED_W",
    "RIGHT",
    "SERVED_U",
    "SPILLED_WH",
    "STEP",
    "TEMPERATURE_C",
    "TRACE",
    "USABLE_WH",
    "UTILITY",
    "advance",
    "parameters_of",
    "start",
]

Floats = npt.NDArray[np.float64]

CHARGE_WH, IS_ON, TEMPERATURE_C, IS_HOT, TRACE, STEP, LAST_U, POWER_IN_W, CONFIDENCE = range(9)
N_STATES = 9
"""Columns of a state. LAST_U, POWER_IN_W and CONFIDENCE are what a policy may know, NaN while it cannot."""

UTILITY, RIGHT, ON_SHARE, LOAD_WH, BOOT_WH, PANEL_WH, SPILLED_WH, LOST_WH, BROWN_OUT, SERVED_U = range(10)
N_FLOWS = 10
"""Columns of what a step brought: events answered right, less the cost of brown-outs; energies; the u computed."""

(
    HOURS,
    USABLE_WH,
    CHARGE_EFFICIENCY,
    CHARGE_COST,
    DISCHARGE_EFFICIENCY,
    DISCHARGE_COST,
    CUT_OFF,
    REBOOT,
    MAX_CHARGE_W,
    SELF_DISCHARGE_W,
    BOOT,
    CONVERTER_COST,
    CONVERTER_W,
    RATED_W,
    IDLE_W,
    RESISTANCE,
    KEEP,
    HOT_ABOVE_C,
    HOT_UNTIL_C,
    HOT_U,
    BROWN_OUT_COST,
    CONFIDENCE_SPREAD,
) = range(22)
N_PARAMETERS = 22


def parameters_of(device: CameraDevice, n: int, *, step_s: float) -> Floats:
    """The numbers of a device for each of n, shape [n, N_PARAMETERS]; change rows to make them differ."""
    board = device.board
    battery, converter, thermal, throttle = board.battery, board.converter, board.thermal, board.throttle
    row = np.empty(N_PARAMETERS)
    row[HOURS] = step_s / 3600.0
    row[USABLE_WH] = battery.usable_wh
    row[CHARGE_EFFICIENCY], row[DISCHARGE_EFFICIENCY] = battery.charge_efficiency, battery.discharge_efficiency
    row[CHARGE_COST], row[DISCHARGE_COST] = 1.0 / battery.charge_efficiency, 1.0 / battery.discharge_efficiency
    row[CUT_OFF], row[REBOOT] = battery.cut_off, battery.reboot
    row[MAX_CHARGE_W], row[SELF_DISCHARGE_W], row[BOOT] = (
        battery.max_charge_w,
        battery.self_discharge_w,
        battery.boot_wh,
    )
    row[CONVERTER_COST], row[CONVERTER_W] = 1.0 / converter.efficiency, converter.standby_w
    row[RATED_W], row[IDLE_W] = device.panel.rated_w, device.profile.idle_w
    row[RESISTANCE], row[KEEP] = thermal.resistance_k_per_w, math.exp(-step_s / thermal.time_constant_s)
    row[HOT_ABOVE_C], row[HOT_UNTIL_C], row[HOT_U] = throttle.above_c, throttle.until_c, throttle.u
    row[BROWN_OUT_COST], row[CONFIDENCE_SPREAD] = device.brown_out_cost_events, device.confidence_spread
    return np.tile(row, (n, 1))


def start(
    parameters: Floats, rows: Floats, *, soc: npt.ArrayLike, trace: npt.ArrayLike, step: npt.ArrayLike = 0
) -> Floats:
    """Devices at the beginning of a step, as warm as the air, shape [n, N_STATES]; on above the cut-off of that cold.

    Args:
        parameters: of `parameters_of`.
        rows: of a `Forcing`.
        soc: state of charge, in [0, 1], a number or shape [n].
        trace: index into `rows`, a number or shape [n].
        step: index of the step, a number or shape [n].
    """
    state = np.full((len(parameters), N_STATES), np.nan)
    state[:, TRACE], state[:, STEP] = trace, step
    state[:, CHARGE_WH] = np.asarray(soc) * parameters[:, USABLE_WH]
    first = rows[state[:, TRACE].astype(np.intp), state[:, STEP].astype(np.intp)]
    cut_off = parameters[:, CUT_OFF] + (1.0 - parameters[:, CUT_OFF]) * first[:, FROZEN]
    state[:, IS_ON] = np.asarray(soc) > cut_off
    state[:, TEMPERATURE_C] = first[:, AIR_C]
    state[:, IS_HOT] = 0.0
    return state


@njit(cache=True)
def advance(  # noqa: PLR0915 -- one function, for the reason below
    state: Floats,
    u: Floats,
    rows: Floats,
    parameters: Floats,
    points_u: Floats,
    points_w: Floats,
    accuracy: Floats,
    confidence: Floats,
    flows: Floats,
) -> None:
    """Take n devices through one step of their traces.

    Args:
        state: shape [n, N_STATES]; changed.
        u: throttle that each asks for, in [0, 1], shape [n].
        rows: of a `Forcing`.
        parameters: shape [n, N_PARAMETERS].
        points_u: operating points of the profile, shape [n_points].
        points_w: their power.
        accuracy: theirs by light, shape [n_points, n_levels].
        confidence: likewise.
        flows: shape [n, N_FLOWS]; filled.
    """
    for i in range(state.shape[0]):
        asked = u[i]
        # Elements by their indices, and no function of our own: slices count references, and calls pass arrays by some
        # hundred words, each at the cost of the arithmetic.
        trace, step = np.uintp(state[i, TRACE]), np.uintp(state[i, STEP])
        k = np.uintp(i if parameters.shape[0] > 1 else 0)
        hours = parameters[k, HOURS]
        # What is computed: the operating point at or below u, at most the throttle of a hot board.
        if state[i, IS_HOT] > 0.0 and asked > parameters[k, HOT_U]:
            asked = parameters[k, HOT_U]
        last = points_u.shape[0] - 1
        point = int(asked * last)  # a dial of even steps is right at the first guess
        while point > 0 and points_u[point] > asked + 1e-9:
            point -= 1
        while point < last and points_u[point + 1] <= asked + 1e-9:
            point += 1
        board_w = parameters[k, IDLE_W] + points_w[point] * rows[trace, step, WORKLOAD]
        load_w = board_w * parameters[k, CONVERTER_COST] + parameters[k, CONVERTER_W]
        panel_w = rows[trace, step, PANEL] * parameters[k, RATED_W]

        # The battery, as in plant.Battery.step.
        was_on = state[i, IS_ON] > 0.0
        leaked_wh = min(state[i, CHARGE_WH], parameters[k, SELF_DISCHARGE_W] * hours)
        charge_wh = state[i, CHARGE_WH] - leaked_wh
        cut_off_wh = parameters[k, USABLE_WH] * (
            parameters[k, CUT_OFF] + (1.0 - parameters[k, CUT_OFF]) * rows[trace, step, FROZEN]
        )
        on_share, drawn_wh, brown_out = 0.0, 0.0, False
        if was_on:
            on_share = 1.0
            drawn_wh = max(load_w - panel_w, 0.0) * parameters[k, DISCHARGE_COST] * hours
            available_wh = max(charge_wh - cut_off_wh, 0.0)
            if drawn_wh > available_wh:
                brown_out = True
                on_share = available_wh / drawn_wh
                drawn_wh = available_wh
        limit_w = parameters[k, MAX_CHARGE_W] if rows[trace, step, CAN_CHARGE] > 0.0 else 0.0
        surplus_w = max(panel_w - load_w, 0.0)
        surplus_wh = hours * (on_share * surplus_w + (1.0 - on_share) * panel_w)
        offered_wh = hours * (on_share * min(surplus_w, limit_w) + (1.0 - on_share) * min(panel_w, limit_w))
        low_wh = charge_wh - drawn_wh
        room_wh = parameters[k, USABLE_WH] - low_wh
        if offered_wh * parameters[k, CHARGE_EFFICIENCY] >= room_wh:
            taken_wh = min(room_wh * parameters[k, CHARGE_COST], offered_wh)
            charge_wh = parameters[k, USABLE_WH]
        else:
            taken_wh = offered_wh
            charge_wh = low_wh + taken_wh * parameters[k, CHARGE_EFFICIENCY]
        is_on = was_on and not brown_out
        boot_wh = 0.0
        if not is_on and charge_wh >= min(
            cut_off_wh + (parameters[k, REBOOT] - parameters[k, CUT_OFF]) * parameters[k, USABLE_WH],
            parameters[k, USABLE_WH],
        ):
            is_on = True
            boot_wh = parameters[k, BOOT]
            charge_wh -= boot_wh * parameters[k, DISCHARGE_COST]

        # Heat, as in plant.ThermalNode and plant.ThermalThrottle.
        steady_c = rows[trace, step, AIR_C] + parameters[k, RESISTANCE] * (on_share * board_w)
        temperature_c = steady_c + (state[i, TEMPERATURE_C] - steady_c) * parameters[k, KEEP]
        is_hot = temperature_c >= parameters[k, HOT_ABOVE_C] or (
            state[i, IS_HOT] > 0.0 and temperature_c >= parameters[k, HOT_UNTIL_C]
        )

        # What the network answered.
        low = min(int(rows[trace, step, LEVEL]), accuracy.shape[1] - 2)
        share = rows[trace, step, LEVEL] - low
        right_share = accuracy[point, low] + share * (accuracy[point, low + 1] - accuracy[point, low])
        mean = confidence[point, low] + share * (confidence[point, low + 1] - confidence[point, low])
        right = rows[trace, step, EVENTS_PER_H] * hours * on_share * right_share

        flows[i, UTILITY] = right - (parameters[k, BROWN_OUT_COST] if brown_out else 0.0)
        flows[i, RIGHT] = right
        flows[i, ON_SHARE] = on_share
        flows[i, LOAD_WH] = load_w * hours * on_share
        flows[i, BOOT_WH] = boot_wh
        flows[i, PANEL_WH] = panel_w * hours
        flows[i, SPILLED_WH] = surplus_wh - taken_wh
        flows[i, LOST_WH] = (
            leaked_wh
            + (1.0 - parameters[k, DISCHARGE_EFFICIENCY]) * (drawn_wh + boot_wh * parameters[k, DISCHARGE_COST])
            + (1.0 - parameters[k, CHARGE_EFFICIENCY]) * taken_wh
        )
        flows[i, BROWN_OUT] = 1.0 if brown_out else 0.0
        flows[i, SERVED_U] = points_u[point]

        state[i, CHARGE_WH] = charge_wh
        state[i, IS_ON] = 1.0 if is_on else 0.0
        state[i, TEMPERATURE_C] = temperature_c
        state[i, IS_HOT] = 1.0 if is_hot else 0.0
        state[i, STEP] += 1.0
        state[i, POWER_IN_W] = max(flows[i, PANEL_WH] - flows[i, SPILLED_WH], 0.0) / hours
        if is_on and on_share > 0.0:
            state[i, LAST_U] = asked
            state[i, CONFIDENCE] = min(
                max(mean + parameters[k, CONFIDENCE_SPREAD] * rows[trace, step, CONFIDENCE_Z], 0.0), 1.0
            )
        else:
            state[i, LAST_U] = np.nan
            state[i, CONFIDENCE] = np.nan
