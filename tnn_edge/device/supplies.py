"""Batteries and chargers as the kernel's power_supply class reports them, one folder each.

The contract is Documentation/ABI/testing/sysfs-class-power of Linux: millionths of V, A, W, Ah and Wh, capacity in
percent, currents and powers negative while a battery discharges. Drivers keep it by halves (power: supply: document
current direction, Linux commit 05f94eb98907): some have no sign, a few have it the wrong way round, so the status
decides wherever it is clear.
"""

from __future__ import annotations

from dataclasses import dataclass

from tnn_edge.device.power import GAUGE_OVERSHOOT
from tnn_edge.device.sysfs_folder import SysfsFolder

__all__ = ["BatteryReport", "ChargerReport", "is_battery", "is_charger", "read_battery", "read_charger"]

_AGREEMENT = 0.02
_VOLTS = (0.5, 1000.0)  # below: a driver that forgot to scale (MAX17040 on a Raspberry Pi: 0.05 V for 4.2 V)
_MOST_W = 10_000.0


@dataclass(frozen=True, kw_only=True)
class BatteryReport:
    """One battery; None is unknown.

    Attributes:
        name: of its folder.
        soc: share in [0, 1].
        charge_wh: energy stored.
        full_wh: energy stored when full.
        power_w: power into it, negative while it discharges.
        status: `Charging`, `Discharging`, `Not charging`, `Full`, `Unknown`, or None.
    """

    name: str
    soc: float | None
    charge_wh: float | None
    full_wh: float | None
    power_w: float | None
    status: str | None


@dataclass(frozen=True, kw_only=True)
class ChargerReport:
    """One charger, adapter or port that may feed the device; None is unknown.

    Attributes:
        name: of its folder.
        kind: `Mains`, `USB` and what else the kernel calls its type.
        is_online: whether it feeds the device.
        power_w: what it delivers; 0 where it is known not to.
    """

    name: str
    kind: str
    is_online: bool | None
    power_w: float | None


def is_battery(kind: str) -> bool:
    """Whether a supply of this type stores energy."""
    return kind in {"Battery", "UPS"}


def is_charger(kind: str) -> bool:
    """Whether a supply of this type feeds a device; older kernels have USB_DCP, USB_PD and the like for USB."""
    return kind in {"Mains", "Wireless", "BrickID"} or kind.startswith("USB")


def read_battery(folder: SysfsFolder) -> BatteryReport:
    """Whatever a battery's folder says."""
    volts = _volts(folder)
    charge_wh, full_wh = _energy_wh(folder, "now", volts), _energy_wh(folder, "full", volts)
    soc = _soc(folder)
    if soc == 0.0 and folder.integer("voltage_now") == 0:
        folder.note("voltage_now", "0, and so is the charge: the gauge does not speak with its battery")
        soc = None
    if soc is not None and full_wh is not None:
        charge_wh = soc * full_wh
    elif charge_wh == 0.0 and soc is None:
        charge_wh = None
    status = folder.text("status")
    return BatteryReport(
        name=folder.name,
        soc=soc,
        charge_wh=charge_wh,
        full_wh=full_wh,
        power_w=_battery_power_w(folder, status, volts),
        status=status,
    )


def read_charger(folder: SysfsFolder, kind: str) -> ChargerReport:
    """Whatever a charger's folder says.

    A USB-C port that feeds a telephone is online as well; its status then says `Discharging`. The voltage and current
    of a UCSI port are those that were negotiated, not those that flow.
    """
    online = folder.integer("online")
    if online is not None and online not in {0, 1, 2}:  # 1 fixed, 2 programmable
        folder.note("online", f"{online} is not 0, 1 or 2")
        online = None
    is_online = None if online is None else online > 0 and folder.text("status") != "Discharging"
    if is_online is False:
        power_w: float | None = 0.0
    elif folder.name.startswith("ucsi"):
        power_w = None
    else:
        power_w = _product(folder.micro("current_now"), _volts(folder))
        if power_w is not None and not 0.0 <= power_w <= _MOST_W:
            folder.note("current_now", f"no charger delivers less than 0 or more than {_MOST_W:g} W")
            power_w = None
    return ChargerReport(name=folder.name, kind=kind, is_online=is_online, power_w=power_w)


def _volts(folder: SysfsFolder) -> float | None:
    volts = folder.micro("voltage_now")
    if volts is not None and not _VOLTS[0] <= volts <= _VOLTS[1]:
        folder.note("voltage_now", f"outside {_VOLTS[0]:g} to {_VOLTS[1]:g} V")
        return None
    return volts


def _amount(folder: SysfsFolder, attribute: str) -> float | None:
    """A stored energy in Wh or charge in Ah, which is never negative, and above 0 for a full battery."""
    amount = folder.micro(attribute)
    if amount is None or amount > 0.0 or (amount == 0.0 and not attribute.endswith("_full")):
        return amount
    folder.note(attribute, "too small to be true")
    return None


def _energy_wh(folder: SysfsFolder, moment: str, volts: float | None) -> float | None:
    """Energy `now` or `full`; a charge in Ah counts at the voltage of now, some percent beside the truth."""
    energy = _amount(folder, f"energy_{moment}")
    return _product(_amount(folder, f"charge_{moment}"), volts) if energy is None else energy


def _soc(folder: SysfsFolder) -> float | None:
    """State of charge: stored over full, which is finer, where it agrees with the gauge's own percentage."""
    percent = folder.integer("capacity")
    gauge = None if percent is None else _share(folder, "capacity", percent / 100)
    ratio = None
    for attribute, full_attribute in (("energy_now", "energy_full"), ("charge_now", "charge_full")):
        now, full = _amount(folder, attribute), _amount(folder, full_attribute)
        if ratio is None and now is not None and full is not None:
            ratio = _share(folder, attribute, now / full)
    if gauge is None or ratio is None:
        return ratio if gauge is None else gauge
    if abs(ratio - gauge) > _AGREEMENT:
        folder.note("capacity", "differs from stored over full energy; capacity is taken")
        return gauge
    return ratio


def _share(folder: SysfsFolder, attribute: str, share: float) -> float | None:
    if not 0.0 <= share <= GAUGE_OVERSHOOT:
        folder.note(attribute, f"outside 0 to {100 * GAUGE_OVERSHOOT:g} %")
        return None
    return min(share, 1.0)


def _battery_power_w(folder: SysfsFolder, status: str | None, volts: float | None) -> float | None:
    """Power into the battery; its size from power_now or current_now, its sign from the status where that is clear."""
    attribute, power = "power_now", folder.micro("power_now")
    if power is None:
        attribute, power = "current_now", _product(folder.micro("current_now"), volts)
    if power is None:
        return None
    if abs(power) > _MOST_W:
        folder.note(attribute, f"no battery gives more than {_MOST_W:g} W")
        return None
    if status == "Charging":
        return abs(power)
    if status == "Discharging":
        return -abs(power)
    if status in {"Full", "Not charging"} or power <= 0.0:
        return power
    folder.note("status", "does not say whether the battery charges, and not all drivers give the power a sign")
    return None


def _product(amperes: float | None, volts: float | None) -> float | None:
    return None if amperes is None or volts is None else amperes * volts
