"""The energy that Intel and AMD processors count themselves: the kernel's powercap class, Running Average Power Limit.

A package holds its cores and its graphics; memory is a domain of its own and not in it. AMD's processors appear under
Intel's name.
"""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tnn_edge.device.counted_energy import CountedMeter, EnergyCounter
from tnn_edge.device.power import Unknown
from tnn_edge.device.sysfs_folder import SysfsFolder, subfolders
from tnn_edge.errors import DeviceError

__all__ = ["rapl_meter"]

# Whole zones: their parts are called intel-rapl:0:0, and intel-rapl-mmio:0 counts the first package once more.
_ZONE = re.compile(r"intel-rapl:[0-9]+")
_REFRESH_S = 0.001  # Intel's Software Developer's Manual, volume 3, on the RAPL interfaces
_ENERGY = "energy_uj"


def rapl_meter(
    root: Path = Path("/sys"), *, use_psys: bool = True, clock: Callable[[], float] = time.monotonic
) -> CountedMeter:
    """A meter of the whole platform (`psys`) where the machine counts it, else of all processor packages together.

    Args:
        root: of the kernel's tree.
        use_psys: False where a board's `psys` is known to count nothing useful; not all makers wire it.
        clock: see `CountedMeter`.

    Raises:
        DeviceError: there are no counters, or they may not be read.
    """
    folder = root / "class" / "powercap"
    try:
        zones = [zone for zone in subfolders(folder, "intel-rapl:") if _ZONE.fullmatch(zone.name)]
    except OSError as err:
        raise DeviceError(f"no RAPL: {folder}: {err.strerror or type(err).__name__}") from err
    named = [(zone, zone.text("name") or "") for zone in zones]
    platform = [(zone, name) for zone, name in named if name == "psys" and _counts(zone)]
    packages = [(zone, name) for zone, name in named if name.startswith("package")]
    chosen, scope = (platform, "platform") if use_psys and platform else (packages, "cpu package")
    if not chosen:
        raise DeviceError(f"no RAPL: {folder} has no zone of a processor package")
    counters = [_counter(zone) for zone, _ in chosen]
    name = f"RAPL {' + '.join(name for _, name in chosen)} ({folder})"
    return CountedMeter(counters, name=name, scope=scope, refresh_s=_REFRESH_S, clock=clock)


def _counts(zone: SysfsFolder) -> bool:
    count = _read(zone.path)
    return not isinstance(count, Unknown) and count > 0


def _counter(zone: SysfsFolder) -> EnergyCounter:
    """A zone's counter, read once to see that it can be."""
    read = partial(_read, zone.path)
    if isinstance(count := read(), Unknown):
        raise DeviceError(f"RAPL: {count.reason}{_mend(count.reason, zone.path)}")
    return EnergyCounter(zone.name, read, 1e-6, zone.integer("max_energy_range_uj"))


def _read(zone: Path) -> int | Unknown:
    folder = SysfsFolder(zone)
    if (count := folder.integer(_ENERGY)) is None:
        return Unknown(folder.notes[-1] if folder.notes else f"{folder.name}/{_ENERGY}: is not there")
    return count


def _mend(reason: str, zone: Path) -> str:
    """What makes the counter readable; Linux keeps it from users because its detail betrays secrets."""
    if not reason.endswith(os.strerror(errno.EACCES)):
        return ""
    counters = zone.parent / "intel-rapl:*" / _ENERGY
    return f"; only root reads it since CVE-2020-8694: measure as root, or run `sudo chmod a+r {counters}`"
