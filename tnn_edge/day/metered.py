"""A simulated device with a meter: where its energy went since the start."""

from __future__ import annotations

from typing import Any

from tnn_edge.device import SimulatedDevice

__all__ = ["MeteredDevice", "SimulatedClock"]


class SimulatedClock:
    """Attributes: seconds: what it says; whoever simulates sets it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


class MeteredDevice(SimulatedDevice):
    """Adds up the flows of every step of the plant.

    Attributes:
        on_s: seconds in which the board had power.
        load_wh: energy that the board got.
        panel_wh: energy that the panel could give.
        spilled_wh: part of it that nobody took.
        lost_wh: energy turned into heat by the battery.
        n_brown_outs: how often the board lost power.
    """

    def __init__(self, **settings: Any) -> None:
        self.on_s = self.load_wh = self.panel_wh = self.spilled_wh = self.lost_wh = 0.0
        self.n_brown_outs = 0
        super().__init__(**settings)

    def _step(self, seconds: float) -> None:
        flow = self._flow(seconds)[1]
        self.on_s += float(flow.on_share[0]) * seconds
        self.load_wh += float(flow.load_wh[0])
        self.panel_wh += float(flow.panel_wh[0])
        self.spilled_wh += float(flow.spilled_wh[0])
        self.lost_wh += float(flow.lost_wh[0])
        self.n_brown_outs += bool(flow.is_brown_out[0])
        super()._step(seconds)
