"""What is simulated: a camera on a powered board under a panel, with the work that there is for it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from tnn_edge.control import DeviceProfile, reference_profile
from tnn_edge.plant import Battery, Panel, PoweredBoard
from tnn_edge.sim.workload import Workload

__all__ = ["CameraDevice", "reference_device"]


@dataclass(frozen=True, eq=False, kw_only=True)
class CameraDevice:
    """A camera whose network answers events, as well as throttle and light allow.

    Attributes:
        profile: what each operating point draws, and how well it answers by light.
        board: battery, converter and heat.
        panel: what charges the battery.
        workload: which share of full computing so many events an hour make.
        brown_out_cost_events: what losing power costs besides the time in the dark, in events answered right: a file
            system to check, a hole in somebody's record. >= 0.
        confidence_spread: standard deviation of the mean confidence of a step about the profile's, >= 0.
    """

    profile: DeviceProfile
    board: PoweredBoard
    panel: Panel
    workload: Workload = field(default_factory=Workload)
    brown_out_cost_events: float = 60.0
    confidence_spread: float = 0.03

    def __post_init__(self) -> None:
        for name in ("brown_out_cost_events", "confidence_spread"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value:g}")

    def with_battery(self, usable_wh: float) -> CameraDevice:
        """The same with a battery of another size."""
        return replace(self, board=replace(self.board, battery=replace(self.board.battery, usable_wh=usable_wh)))


def reference_device(*, battery_wh: float = 120.0, panel_w: float = 40.0) -> CameraDevice:
    """The reference profile on a board that loses what real ones do; all of it modelled.

    Args:
        battery_wh: usable energy.
        panel_w: rated power.
    """
    battery = Battery(
        usable_wh=battery_wh,
        charge_efficiency=0.97,
        discharge_efficiency=0.97,
        cut_off=0.02,
        reboot=0.1,
        self_discharge_per_month=0.03,
        boot_wh=0.1,
    )
    return CameraDevice(profile=reference_profile(), board=PoweredBoard(battery=battery), panel=Panel(rated_w=panel_w))
