"""The power source of this machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from tnn_edge.device.power import PowerReading, PowerSource
from tnn_edge.device.psutil_power import PsutilPower
from tnn_edge.device.sysfs_power import POWER_SUPPLY, SysfsPower
from tnn_edge.errors import DeviceError

__all__ = ["Backend", "FirstKnown", "open_power"]

Backend = Literal["auto", "sysfs", "psutil"]


class FirstKnown:
    """Several sources in order: at each reading the first that knows anything answers.

    What those before it refused stands in the notes, after the answer's own.
    """

    def __init__(self, sources: Sequence[PowerSource]) -> None:
        if not sources:
            raise ValueError("sources must name at least one, got none")
        self.sources = tuple(sources)

    def read(self) -> PowerReading:
        """The state of now; never raises."""
        refusals: list[str] = []
        for source in self.sources[:-1]:
            if (reading := source.read()).is_known:
                break
            refusals += dict.fromkeys((*reading.reasons.values(), *reading.notes))
        else:
            reading = self.sources[-1].read()
        return replace(reading, notes=(*reading.notes, *refusals))


def open_power(
    *,
    root: Path = POWER_SUPPLY,
    backend: Backend = "auto",
    need_battery: bool = False,
    not_mains: Collection[str] = (),
) -> PowerSource:
    """The source that tells how this machine is powered.

    `auto` is sysfs where its folder exists, even if it is empty, for a battery may be plugged in later, and psutil
    elsewhere. Psutil is no help on Linux: it reads the same folder and takes a mouse's battery for the machine's.

    A machine without a battery is no error: its readings are None, each with its reason.

    Args:
        root: of the kernel's power_supply class.
        backend: which to use.
        need_battery: whether a battery whose charge cannot be read now is an error.
        not_mains: see `SysfsPower`.

    Raises:
        DeviceError: `need_battery`, and the state of charge is unknown.
    """
    if backend not in get_args(Backend):
        raise ValueError(f"backend must be one of {', '.join(get_args(Backend))}, got {backend!r}")
    sysfs = SysfsPower(root, not_mains=not_mains)
    source: PowerSource
    if backend == "psutil":
        source = PsutilPower()
    elif backend == "sysfs" or sysfs.root.is_dir():
        source = sysfs
    else:
        source = FirstKnown([sysfs, PsutilPower()])
    if need_battery and (reading := source.read()).soc is None:
        why = "; ".join((reading.reasons["soc"], *reading.notes))
        raise DeviceError(
            f"a battery is needed and its charge cannot be read: {why}. Connect it and load its driver, or do without"
        )
    return source
