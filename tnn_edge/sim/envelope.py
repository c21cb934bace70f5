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

__all__ = ["check_reserve", "declare_reserve", "known_years", "needed_charge_wh"]

Floats = npt.NDArray[np.float64]

WINDOW_DAYS = 10
MARGIN = 0.02

_SEED = 1_000_000

_TIMES_AUTONOMY = 4.0
"""Winter sun that gives three quarters of what the floor takes makes a battery last so many times as long."""


def known_years(
    climate: Climate, n_years: int, *, step_s: float, surroundings: Surroundings, seed: int = _SEED
) -> list[Traces]:
    """Years to work a reserve out from: of every pool of days but the one that is kept for tests.

    Each pool gives years by itself: one kind of weather lasts the longer, the fewer days there are to draw from. At a
    site of which all days are kept for tests they are drawn from these.

    Args:
        climate: of the site.
        n_years: how many in all.
        step_s: length of a step.
        surroundings: lamps, haze and work.
        seed: of the first; by default of none that anybody plays.
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
        spent_wh = np.cumsum(np.concatenate([loss_wh, loss_wh[beyond]]))
        cut_off_wh = np.concatenate([terms.cut_off_wh, terms.cut_off_wh[beyond]])
        # Where one step ends and the next begins, the charge is to be above the cut-off of both.
        between_wh = np.maximum(cut_off_wh, np.append(cut_off_wh[1:], cut_off_wh[-1]))
        first_wh = max(terms.cut_off_wh[0], terms.cut_off_wh[-1] if is_round else 0.0)
        below = np.full(n_steps + n_ahead, -np.inf)
        below[: len(spent_wh)] = spent_wh + between_wh
        before_wh = spent_wh[:n_steps] - loss_wh
        least_wh = np.append(first_wh, between_wh[: n_steps - 1])
        needed[i] = np.maximum(_largest_ahead(below, n_ahead)[:n_steps] - before_wh, least_wh)
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
        horizon_days = _TIMES_AUTONOMY * battery.usable_wh / max(float(drain_w), 1e-9) / 24.0
    table = np.full((N_SEASONS, 24), -np.inf)
    for traces in years:
        needed = needed_charge_wh(device, traces, u_floor=u_floor, horizon_days=horizon_days, is_round=True).max(axis=0)
        hour = traces.hour.astype(np.intp)
        for off in range(-window_days, window_days + 1):
            np.maximum.at(table, (season_of(traces.day_of_year + off), hour), needed)
    season = table.max(axis=1).argmin()
    if table[season].max() == -np.inf:
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


def check_reserve(reserve: Reserve, device: CameraDevice, *, period_s: float) -> None:
    """Refuse a reserve that was worked out for another device.

    Args:
        reserve: that a shield keeps.
        device: that it is to protect.
        period_s: time between two decisions.

    Raises:
        InputError: battery, board, operating points or period are others; all of them are named.
    """
    board, profile = device.board, device.profile
    pairs: dict[str, tuple[object, object]] = {
        "battery_wh": (reserve.battery_wh, board.battery.usable_wh),
        "discharge_efficiency": (reserve.discharge_efficiency, board.battery.discharge_efficiency),
        "leak_w": (reserve.leak_w, board.battery.self_discharge_w),
        "converter_efficiency": (reserve.converter_efficiency, board.converter.efficiency),
        "converter_w": (reserve.converter_w, board.converter.standby_w),
        "idle_w": (reserve.idle_w, profile.idle_w),
        "u": (reserve.u, profile.u.tolist()),
        "power_w": (reserve.power_w, profile.power_w.tolist()),
    }
    others = [f"{name} {told} in place of {true}" for name, (told, true) in pairs.items() if told != true]
    if reserve.period_s < period_s:
        others.append(f"period_s {reserve.period_s:g} in place of {period_s:g}")
    if others:
        raise InputError(
            f"the reserve of {reserve.site} is for another device: {'; '.join(others)}; make one with tnn-edge reserve"
        )
