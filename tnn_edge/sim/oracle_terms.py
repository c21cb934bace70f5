"""What each operating point would do to the battery in each step of one trace, which a planner knows in hindsight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.forcing import CAN_CHARGE, EVENTS_PER_H, FROZEN, LEVEL, PANEL, WORKLOAD

__all__ = ["Terms"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Terms:
    """A trace for a device, as the planner reads it. Energies are those stored in the battery, in Wh.

    Attributes:
        needed_wh: what the battery gives for each operating point, shape [n_steps, n_points].
        gained_wh: what it gets, likewise; one of the two is 0.
        right: events that it answers right, likewise.
        dark_wh: what the battery gets while the board has no power, shape [n_steps].
        cut_off_wh: charge at which power is lost, shape [n_steps].
        reboot_wh: charge at which it comes back, shape [n_steps].
        usable_wh: charge of a full battery.
        leak_wh: charge that leaks in a step.
        boot_wh: charge that a start takes.
        brown_out_cost: events that a loss of power costs.
    """

    needed_wh: Floats
    gained_wh: Floats
    right: Floats
    dark_wh: Floats
    cut_off_wh: Floats
    reboot_wh: Floats
    usable_wh: float
    leak_wh: float
    boot_wh: float
    brown_out_cost: float

    @classmethod
    def of(cls, device: CameraDevice, rows: Floats, *, step_s: float) -> Terms:
        """Work them out.

        Args:
            device: what is simulated.
            rows: one trace of a `Forcing`, shape [n_steps, N_COLUMNS].
            step_s: length of a step.
        """
        board, profile, hours = device.board, device.profile, step_s / 3600.0
        battery = board.battery
        panel_w = device.panel.rated_w * rows[:, PANEL]
        limit_w = np.where(rows[:, CAN_CHARGE] > 0.0, battery.max_charge_w, 0.0)
        board_w = profile.idle_w + rows[:, WORKLOAD, None] * profile.power_w
        lacking_w = board.converter.input_w(board_w) - panel_w[:, None]
        surplus_w = np.minimum(np.maximum(-lacking_w, 0.0), limit_w[:, None])
        low = np.minimum(rows[:, LEVEL].astype(np.intp), profile.lux.size - 2)
        share = (rows[:, LEVEL] - low)[:, None]
        by_level = profile.accuracy.T
        accuracy = by_level[low] + share * (by_level[low + 1] - by_level[low])
        cut_off = battery.cut_off + (1.0 - battery.cut_off) * rows[:, FROZEN]
        above = battery.reboot - battery.cut_off
        return cls(
            needed_wh=np.maximum(lacking_w, 0.0) * hours / battery.discharge_efficiency,
            gained_wh=surplus_w * hours * battery.charge_efficiency,
            right=rows[:, EVENTS_PER_H, None] * hours * accuracy,
            dark_wh=np.minimum(panel_w, limit_w) * hours * battery.charge_efficiency,
            cut_off_wh=battery.usable_wh * cut_off,
            reboot_wh=battery.usable_wh * np.minimum(cut_off + above, 1.0),
            usable_wh=battery.usable_wh,
            leak_wh=battery.self_discharge_w * hours,
            boot_wh=battery.boot_wh / battery.discharge_efficiency,
            brown_out_cost=device.brown_out_cost_events,
        )
