"""Battery and mains through psutil, for systems that are not Linux."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import psutil

from tnn_edge.device.power import GAUGE_OVERSHOOT, PowerReading, Unknown

__all__ = ["PsutilPower"]


class _Battery(Protocol):
    @property
    def percent(self) -> float: ...
    @property
    def power_plugged(self) -> bool | None: ...


_SENSORS_BATTERY: Callable[[], _Battery | None] | None = getattr(psutil, "sensors_battery", None)


class PsutilPower:
    """What `psutil.sensors_battery` says: state of charge and mains.

    On Linux psutil reads the files that `SysfsPower` reads, but knows a battery by its name alone: it takes the
    first folder called `BAT...` or `...battery...`, be it a mouse's, and raises where a file holds something odd.
    It gives 0 percent where it cannot tell how much the battery holds, so 0 is unknown here.

    Args:
        sensors_battery: psutil's function, or one like it; None where psutil has none for this system.
    """

    def __init__(self, sensors_battery: Callable[[], _Battery | None] | None = _SENSORS_BATTERY) -> None:
        self._sensors_battery = sensors_battery

    def read(self) -> PowerReading:
        """The state of now; never raises."""
        if self._sensors_battery is None:
            return PowerReading.unknown("psutil reads no batteries on this system")
        try:
            battery = self._sensors_battery()
        except Exception as err:  # noqa: BLE001 - psutil parses without checks: what the files hold decides the error
            return PowerReading.unknown(f"psutil: {err}")
        if battery is None:
            return PowerReading.unknown("psutil finds no battery")
        share = battery.percent / 100.0
        not_offered = Unknown("psutil does not offer it")
        return PowerReading.of(
            soc=min(share, 1.0) if 0.0 < share <= GAUGE_OVERSHOOT else Unknown("psutil gives no usable percentage"),
            on_mains=Unknown("psutil cannot tell") if battery.power_plugged is None else battery.power_plugged,
            power_in_w=not_offered,
            battery_w=not_offered,
            charge_wh=not_offered,
            full_wh=not_offered,
        )
