"""The reserve of a site and a device: the worst that its days could bring, by season and hour."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from tnn_edge.control.reserve import N_SEASONS, Reserve, season_of
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.climate import Climate
from tnn_edge.sim.drawing import Surroundings, draw_traces
from tnn_edge.sim.forcing import WORKLOAD, Forcing
from tnn_edge.sim.oracle_terms import Terms
from tnn_edge.sim.traces import Traces

__all__ = ["declare_reserve", "known_years", "needed_charge_wh"]

Floats = npt.NDArray[np.float64]

WINDOW_DAYS = 10
MARGIN = 0.02

_TIMES_AUTONOMY = 4.0
"""Winter sun that gives three quarters of what the floor takes makes a battery last so many times as long."""


def known_years(
    climate: Climate, n_years: int, *, seed: int, step_s: float, surroundings: Surroundings
) -> list[Traces]:
    """Years to work a reserve out from: of every pool of days but the one that is kept for tests.

    Each pool gives years by itself: one kind of weather lasts the longer, the fewer days there are to draw from. At a
    site of which all days are kept for tests they are drawn from these.

    Args:
        climate: of the site.
        n_years: how many in all.
        seed: of the first.
        step_s: length of a step.
        surroundings: lamps, haze and work.
    """
    pools = ("train", "validation") if climate.is_trainable else ("test",)
    return [
        draw_traces(
            climate, pool, range(seed + i, seed + n_years, len(pools)), step_s=step_s, surroundings=surroundings
        )
        for i, pool in enumerate(pools[:n_years])
    ]


def needed_charge_wh(
    device: CameraDevice, traces: Traces, *, u_floor: float = 0.0, horizon_days: float, is_round: bool = False
) -> Floats:
    """Charge with which a device at the floor, at full workload, lives through the next days, shape [n, n_steps].

    Args:
        device: what it is.
        traces: what it meets.
        u_floor: throttle that it keeps to.
        horizon_days: how far ahead it must live.
        is_round: whether a trace begins anew where it ends, as a year does; otherwise nothing is needed beyond.
    """
    rows = Forcing.of(device, traces).rows.copy()
    rows[..., WORKLOAD] = 1.0
    point = int(device.profile.point_at(u_floor))
    n_steps = traces.n_steps
    n_ahead = min(max(round(horizon_days * 86_400.0 / traces.step_s), 1), n_steps)
    needed = np.empty((len(traces), n_steps))
    for i, trace in enumerate(rows):
        terms = Terms.of(device, trace, step_s=traces.step_s)
        loss_wh = terms.needed_wh[:, point] - terms.gained_wh[:, point] + terms.leak_wh
        beyond = slice(n_ahead if is_round else 0)
        # At the end of step k the charge is to be above the cut-off of that step.
        spent_wh = np.cumsum(np.concatenate([loss_wh, loss_wh[beyond]]))
        below = np.full(n_steps + n_ahead, -np.inf)
        below[: len(spent_wh)] = spent_wh + np.concatenate([terms.cut_off_wh, terms.cut_off_wh[beyond]])
        before_wh = spent_wh[:n_steps] - loss_wh
        needed[i] = np.maximum(_largest_ahead(below, n_ahead)[:n_steps] - before_wh, terms.cut_off_wh)
    return needed


def _largest_ahead(values: Floats, n_ahead: int) -> Floats:
    """The largest of every value and the `n_ahead` - 1 after it, of the same shape (van Herk's two running maxima)."""
    n_blocks = -(-len(values) // n_ahead)
    blocks = np.full((n_blocks, n_ahead), -np.inf)
    blocks.flat[: len(values)] = values
    to_end = np.maximum.accumulate(blocks[:, ::-1], axis=1)[:, ::-1].ravel()[: len(values)]
    from_begin = np.append(np.maximum.accumulate(blocks, axis=1).ravel(), np.full(n_ahead, -np.inf))
    largest: Floats = np.maximum(to_end, from_begin[n_ahead - 1 :][: len(values)])
    return largest


def declare_reserve(
    device: CameraDevice,
    years: Sequence[Traces],
    *,
    u_floor: float = 0.0,
    window_days: int = WINDOW_DAYS,
    horizon_days: float | None = None,
    margin: float = MARGIN,
) -> Reserve:
    """Declare what a device is to keep: the most that it needed in any of the years, about that day and hour.

    Args:
        device: what it is.
        years: whole years of the site.
        u_floor: throttle at which the reserve is to last.
        window_days: so many days before and after count for a day.
        horizon_days: how far ahead the reserve looks; by default four times as long as a full battery lasts without
            sun.
        margin: share of the battery that is kept on top.

    Raises:
        InputError: the years leave out a season.
    """
    profile, battery, converter = device.profile, device.board.battery, device.board.converter
    if horizon_days is None:
        floor_w = converter.input_w(profile.idle_w + profile.power_w[profile.point_at(u_floor)])
        drain_w = floor_w / battery.discharge_efficiency + battery.self_discharge_w
        horizon_days = _TIMES_AUTONOMY * battery.usable_wh / float(drain_w) / 24.0
    table = np.zeros((N_SEASONS, 24))
    for traces in years:
        needed = needed_charge_wh(device, traces, u_floor=u_floor, horizon_days=horizon_days, is_round=True).max(axis=0)
        hour = traces.hour.astype(np.intp)
        for off in range(-window_days, window_days + 1):
            np.maximum.at(table, (season_of(traces.day_of_year + off), hour), needed)
    season = table.max(axis=1).argmin()
    if table[season].max() == 0.0:
        raise InputError(f"{years[0].site}: there is no day of season {season + 1} of {N_SEASONS}; draw whole years")
    reserve_wh = table + margin * battery.usable_wh
    return Reserve(
        site=years[0].site,
        battery_wh=battery.usable_wh,
        discharge_efficiency=battery.discharge_efficiency,
        leak_w=battery.self_discharge_w,
        converter_efficiency=converter.efficiency,
        converter_w=converter.standby_w,
        idle_w=profile.idle_w,
        u=profile.u.tolist(),
        power_w=profile.power_w.tolist(),
        u_floor=u_floor,
        period_s=years[0].step_s,
        is_sufficient=bool((reserve_wh <= battery.usable_wh).all()),
        reserve_wh=np.minimum(reserve_wh, battery.usable_wh).tolist(),
    )
