"""What happens to a device whatever it does, step by step, in the form that the core reads."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tnn_edge.plant import Panel
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.traces import Traces

__all__ = [
    "AIR_C",
    "CAN_CHARGE",
    "CONFIDENCE_Z",
    "EVENTS_PER_H",
    "FROZEN",
    "LEVEL",
    "N_COLUMNS",
    "PANEL",
    "WORKLOAD",
    "Forcing",
]

Floats = npt.NDArray[np.float64]

PANEL, FROZEN, CAN_CHARGE, AIR_C, LEVEL, EVENTS_PER_H, WORKLOAD, CONFIDENCE_Z = range(8)
N_COLUMNS = 8
"""Columns of a row, which fills one line of the processor's cache; what is in each, `Forcing` says."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Forcing:
    """Weather and work of n traces, worked out for a device.

    Battery capacity and panel power are left out, so that devices that differ in them share it.

    Attributes:
        step_s: length of a step in seconds.
        rows: shape [n, n_steps, N_COLUMNS]:
            PANEL: power that a panel could give over its rated power.
            FROZEN: share of the charge that the cold keeps from being drawn.
            CAN_CHARGE: 1, or 0 where the battery is too cold to be charged.
            AIR_C: temperature of the air.
            LEVEL: position of the scene's light on the profile's axis of levels.
            EVENTS_PER_H: events an hour, as many as full computing can answer at most.
            WORKLOAD: share of full computing that they ask for.
            CONFIDENCE_Z: a standard normal number, by which confidence differs from its mean.
    """

    step_s: float
    rows: Floats

    @classmethod
    def of(cls, device: CameraDevice, traces: Traces) -> Forcing:
        """Work out what the traces do to a device like this one."""
        battery = device.board.battery
        rows = np.empty((*traces.irradiance_w_m2.shape, N_COLUMNS))
        unit = Panel(**{**vars(device.panel), "rated_w": 1.0})
        rows[..., PANEL] = unit.power_w(traces.irradiance_w_m2, traces.air_c)
        rows[..., FROZEN] = battery.frozen_share(traces.air_c)
        rows[..., CAN_CHARGE] = traces.air_c >= battery.min_charge_c
        rows[..., AIR_C] = traces.air_c
        rows[..., LEVEL] = device.profile.level_at(traces.scene_lux)
        rows[..., EVENTS_PER_H] = device.workload.answerable(traces.events_per_h)
        rows[..., WORKLOAD] = device.workload.share(traces.events_per_h)
        rows[..., CONFIDENCE_Z] = traces.confidence_z
        return cls(step_s=traces.step_s, rows=rows)

    @property
    def n_traces(self) -> int:
        """How many traces."""
        return int(self.rows.shape[0])

    @property
    def n_steps(self) -> int:
        """Steps of each."""
        return int(self.rows.shape[1])
