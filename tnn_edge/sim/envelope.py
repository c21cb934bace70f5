"""The reserve of a site and a device: the worst that its days could bring, by season and hour."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tnn_edge.control.reserve import N_SEASONS, Reserve, season_of
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.forcing import WORKLOAD, Forcing
from tnn_edge.sim.oracle_terms import Terms
from tnn_edge.sim.traces import Traces

__all__ = ["declare_reserve", "needed_charge_wh"]

Floats = npt.NDArray[np.float64]

WINDOW_DAYS = 10
HORIZON_DAYS = 4.0
MARGIN = 0.02


def needed_charge_wh(device: CameraDevice, traces: Traces, *, u_floor: float = 0.0, horizon_days: float) -> Floats:
    """Charge with which a device at the floor, at full workload, lives through the next days, shape [n, n_steps].

    Args:
        device: what it is.
        traces: what it meets.
        u_floor: throttle that it keeps to.
        horizon_days: how far ahead it must live; beyond the end of a trace nothing is needed.
    """
    rows = Forcing.of(device, traces).rows.copy()
    rows[..., WORKLOAD] = 1.0
    point = int(device.profile.point_at(u_floor))
    n_ahead = max(round(horizon_days * 86_400.0 / traces.step_s), 1)
    needed = np.empty(traces.irradiance_w_m2.shape)
    for i, trace in enumerate(rows):
        terms = Terms.of(device, trace, step_s=traces.step_s)
        loss_wh = terms.needed_wh[:, point] - terms.gained_wh[:, point] + terms.leak_wh
        spent_wh = np.concatenate([[0.0], np.cumsum(loss_wh)])  # up to the beginning of each step
        # At the end of step k the charge is to be above the cut-off of that step.
        below = np.full(len(loss_wh) + n_ahead, -np.inf)
        below[: len(loss_wh)] = spent_wh[1:] + terms.cut_off_wh
        ahead = np.lib.stride_tricks.sliding_window_view(below, n_ahead)[: len(loss_wh)].max(axis=1)
        needed[i] = np.maximum(ahead - spent_wh[:-1], terms.cut_off_wh)
    return needed


def declare_reserve(
    device: CameraDevice,
    traces: Traces,
    *,
    u_floor: float = 0.0,
    window_days: int = WINDOW_DAYS,
    horizon_days: float = HORIZON_DAYS,
    margin: float = MARGIN,
) -> Reserve:
    """Declare what a device is to keep: the most that it needed in any of the traces, about that day and hour.

    Args:
        device: what it is.
        traces: whole years of the site, of the days to learn from.
        u_floor: throttle at which the reserve is to last.
        window_days: so many days before and after count for a day.
        horizon_days: how far ahead the reserve looks.
        margin: share of the battery that is kept on top.

    Raises:
        InputError: the traces leave out a season.
    """
    usable_wh = device.board.battery.usable_wh
    needed = needed_charge_wh(device, traces, u_floor=u_floor, horizon_days=horizon_days).max(axis=0)
    hour = traces.hour.astype(np.intp)
    table = np.zeros((N_SEASONS, 24))
    for off in range(-window_days, window_days + 1):
        np.maximum.at(table, (season_of(traces.day_of_year + off), hour), needed)
    if (season := table.max(axis=1).argmin()) is not None and table[season].max() == 0.0:
        raise InputError(f"the traces of {traces.site} hold no day of season {season + 1} of {N_SEASONS}; draw a year")
    reserve_wh = table + margin * usable_wh
    return Reserve(
        site=traces.site,
        battery_wh=usable_wh,
        discharge_efficiency=device.board.battery.discharge_efficiency,
        leak_w=device.board.battery.self_discharge_w,
        converter_efficiency=device.board.converter.efficiency,
        converter_w=device.board.converter.standby_w,
        idle_w=device.profile.idle_w,
        u=device.profile.u.tolist(),
        power_w=device.profile.power_w.tolist(),
        u_floor=u_floor,
        period_s=traces.step_s,
        is_sufficient=bool((reserve_wh <= usable_wh).all()),
        reserve_wh=np.minimum(reserve_wh, usable_wh).tolist(),
    )
