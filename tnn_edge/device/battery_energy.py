"""The energy that a device draws from its battery."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from tnn_edge.device.power import PowerSource, Unknown
from tnn_edge.device.power_samples import Stop
from tnn_edge.device.sampled_energy import SampledMeter
from tnn_edge.errors import DeviceError

__all__ = ["battery_meter"]


def battery_meter(
    source: PowerSource,
    *,
    period_s: float = 1.0,
    refresh_s: float = 2.0,
    clock: Callable[[], float] = time.monotonic,
    new_stop: Callable[[], Stop] = threading.Event,
) -> SampledMeter:
    """A meter of what leaves the battery while nothing else feeds the device: screen and radio included.

    Args:
        source: where the battery's power comes from.
        period_s: time between two readings.
        refresh_s: how old the gauge's power may be: laptops renew it every second or two, some gauges every 5 s.
        clock: see `SampledMeter`.
        new_stop: see `SampledMeter`.

    Raises:
        DeviceError: there is no battery, it does not discharge, or its power is unknown.
    """
    if isinstance(power_w := _discharge_w(source), Unknown):
        raise DeviceError(f"no energy from a battery: {power_w.reason}")
    return SampledMeter(
        lambda: _discharge_w(source),
        name="battery",
        scope="battery",
        period_s=period_s,
        refresh_s=refresh_s,
        clock=clock,
        new_stop=new_stop,
    )


def _discharge_w(source: PowerSource) -> float | Unknown:
    """Power of now out of the battery, where that is all the device takes."""
    reading = source.read()
    if reading.battery_w is None:
        return Unknown(reading.reasons["battery_w"])
    if reading.on_mains is None:
        return Unknown(reading.reasons["on_mains"])
    if reading.on_mains:
        return Unknown("mains power feeds the device; unplug it to measure")
    if reading.power_in_w:
        return Unknown("a charger or a panel feeds the device as well")
    return -reading.battery_w if reading.battery_w < 0.0 else Unknown("the battery does not discharge")
