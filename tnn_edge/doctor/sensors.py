"""What a policy sees of the device: battery, temperature, energy. Without them it runs, with less to go by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tnn_edge.doctor.finding import Finding, note, ok
from tnn_edge.doctor.rooms import load_room
from tnn_edge.doctor.surroundings import Surroundings

__all__ = ["check_battery", "check_energy", "check_temperature"]

_RULES = "rules on it answer with the policy's unknown_u; write rules for the unknown"
_COUNTERS, _COUNTER = "sys/class/powercap", "intel-rapl:*/energy_uj"
"""Of the processor's energy; since 2020 the kernel lets root alone read them, for they tell on other programs."""


def check_battery(where: Surroundings) -> Iterator[Finding]:
    """State of charge and mains, as a policy reads them."""
    load_room("tnn_edge.device")
    from tnn_edge.device import open_power

    reading = open_power(root=where.root / "sys/class/power_supply", backend="sysfs").read()
    mains = {None: "mains unknown", True: "on mains", False: "not on mains"}[reading.on_mains]
    if reading.soc is None:
        why = "; ".join(dict.fromkeys((reading.reasons["soc"], *reading.notes)))
        yield note("battery", f"charge unknown, {mains}", cause=f"{why}; {_RULES}")
    else:
        yield ok("battery", f"{reading.soc:.0%} charged, {mains}")


def check_temperature(where: Surroundings) -> Iterator[Finding]:
    """The hottest sensor, as a policy reads it."""
    load_room("tnn_edge.device")
    from tnn_edge.device import SysfsThermometer

    thermometer = SysfsThermometer(where.root / "sys/class")
    celsius = thermometer.read()
    if celsius is None:
        yield note("temperature", "unknown", cause=f"{'; '.join(thermometer.notes)}; {_RULES}")
    else:
        yield ok("temperature", f"{celsius:.1f} degrees C")


def check_energy(where: Surroundings) -> Iterator[Finding]:
    """The best energy meter of the processor that is to run the network, and why no better one."""
    load_room("tnn_edge.device.energy_choice")
    from tnn_edge.device.energy_choice import best_meter

    meter, refusals = best_meter(where.root / "sys", device="cuda" if where.device == "cuda" else "cpu")
    if not meter.is_modelled:
        yield ok("energy", f"{meter.name}, of the {meter.scope}")
        return
    denied = [path for path in (where.root / _COUNTERS).glob(_COUNTER) if not _may_read(path)]
    cause = f"energy per inference is modelled from time, not measured: {'; '.join(refusals)}"
    yield note("energy", meter.name, cause=cause, mend=f"sudo chmod a+r /{_COUNTERS}/{_COUNTER}" if denied else None)


def _may_read(path: Path) -> bool:
    return os.access(path, os.R_OK, effective_ids=os.access in os.supports_effective_ids)
