"""Battery and mains from the kernel's power_supply class."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from tnn_edge.device.power import PowerReading, Unknown
from tnn_edge.device.supplies import (
    BatteryReport,
    ChargerReport,
    is_battery,
    is_charger,
    read_battery,
    read_charger,
)
from tnn_edge.device.sysfs_folder import SysfsFolder, subfolders

__all__ = ["POWER_SUPPLY", "SysfsPower"]

POWER_SUPPLY = Path("/sys/class/power_supply")

_NO_BATTERY = "no battery is reported"


class SysfsPower:
    """What `/sys/class/power_supply` says, looked up afresh at each reading, so batteries may come and go.

    Only supplies of the whole system count: a scope of `Device` is that of a mouse or a headset. Several batteries
    count as one, each by the energy it holds when full; where one of them cannot be read, their sum is unknown.

    Args:
        root: folder with one folder a supply.
        not_mains: names of supplies that do not draw on the mains though the kernel calls them so: the charger
            behind a solar panel. Their power counts as power in.
    """

    def __init__(self, root: Path = POWER_SUPPLY, *, not_mains: Collection[str] = ()) -> None:
        self.root = Path(root)
        self.not_mains = frozenset(not_mains)

    def read(self) -> PowerReading:
        """The state of now; never raises."""
        try:
            folders = subfolders(self.root)
        except OSError as err:
            return PowerReading.unknown(f"{self.root}: {err.strerror or type(err).__name__}")
        batteries: list[BatteryReport] = []
        chargers: list[ChargerReport] = []
        for folder in folders:
            kind = _system_kind(folder)
            if is_battery(kind):
                batteries.append(read_battery(folder))
            elif is_charger(kind):
                chargers.append(read_charger(folder, kind))
        names = _names(batteries)
        return PowerReading.of(
            soc=_soc(batteries),
            on_mains=_on_mains(batteries, chargers, self.not_mains),
            power_in_w=_power_in_w(batteries, chargers),
            battery_w=_sum([b.power_w for b in batteries], f"{names} reports no usable power or current"),
            charge_wh=_sum([b.charge_wh for b in batteries], f"{names} reports no usable energy"),
            full_wh=_sum([b.full_wh for b in batteries], f"{names} reports no usable energy when full"),
            notes=dict.fromkeys(note for folder in folders for note in folder.notes),
        )


def _system_kind(folder: SysfsFolder) -> str:
    """The supply's type, or '' where it is not there or does not feed the system."""
    kind = folder.text("type")
    if kind is None:
        folder.note("type", "unknown, the supply is left out")
        return ""
    if folder.text("scope") == "Device":  # without the file, the kernel says, it is the system's
        folder.note("scope", "Device, it feeds a peripheral and is left out")
        return ""
    if is_battery(kind) and folder.integer("present") == 0:
        folder.note("present", "0, the bay is empty")
        return ""
    return kind


def _soc(batteries: Sequence[BatteryReport]) -> float | Unknown:
    if not batteries:
        return Unknown(_NO_BATTERY)
    shares = [b.soc for b in batteries if b.soc is not None]
    if len(shares) < len(batteries):
        return Unknown(
            f"{_names([b for b in batteries if b.soc is None])} reports no usable capacity, energy or charge"
        )
    sizes = [b.full_wh for b in batteries if b.full_wh is not None]
    if len(sizes) < len(batteries):
        if len(batteries) > 1:
            return Unknown("there are several batteries, and not all say how much they hold")
        return shares[0]
    return min(sum(soc * size for soc, size in zip(shares, sizes, strict=True)) / sum(sizes), 1.0)


def _sum(values: Sequence[float | None], reason: str) -> float | Unknown:
    known = [value for value in values if value is not None]
    if not values:
        return Unknown(_NO_BATTERY)
    return sum(known) if len(known) == len(values) else Unknown(reason)


def _on_mains(
    batteries: Sequence[BatteryReport], chargers: Sequence[ChargerReport], not_mains: Collection[str]
) -> bool | Unknown:
    """Whether mains power feeds the device.

    Charging is no proof of mains, for a panel charges too. Nor is an offline port a proof of its absence where there
    is no battery: something else must then feed the device.
    """
    online = [c for c in chargers if c.is_online and c.name not in not_mains]
    is_discharging = any(b.status == "Discharging" for b in batteries)
    if online:
        is_sure = not is_discharging or any(c.kind == "Mains" for c in online)  # a USB port may be the one that gives
        return is_sure or Unknown(f"{_names(online)} is online, yet the battery discharges")
    if not batteries:
        return Unknown("no mains supply is online and no battery is reported")
    if unclear := [c for c in chargers if c.is_online is None and c.name not in not_mains]:
        return Unknown(f"{_names(unclear)} does not say whether it is online")
    if any(b.status == "Charging" for b in batteries) and not any(c.is_online for c in chargers):
        return Unknown("the battery charges from something that is not reported")
    if chargers or is_discharging:
        return False
    return Unknown("no mains supply is reported, and the battery does not say that it discharges")


def _power_in_w(batteries: Sequence[BatteryReport], chargers: Sequence[ChargerReport]) -> float | Unknown:
    """Power of all chargers; 0 only where one says it is off and every battery confirms it by discharging."""
    meters = [c for c in chargers if c.is_online or not c.name.startswith("ucsi")]
    if not meters:
        return Unknown("no charger is reported")
    total = _sum([c.power_w for c in meters], "a charger that may be online does not report voltage and current")
    if total == 0.0 and not (batteries and all(b.status == "Discharging" for b in batteries)):
        return Unknown("no charger that reports is online, yet something feeds the device")
    return total


def _names(supplies: Sequence[BatteryReport] | Sequence[ChargerReport]) -> str:
    return ", ".join(supply.name for supply in supplies)
