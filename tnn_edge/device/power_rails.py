"""Power rails that Texas Instruments' monitors watch on Jetson boards, as the kernel shows them.

Three layouts: INA3221 below `class/hwmon` (three channels: in1..3 in mV, curr1..3 in mA; from in4 on there are
voltages over shunts), INA238 below `class/hwmon` (power1 in uW), and INA3221 through NVIDIA's own driver of JetPack 4
(power in mW). A USB-C port (`ucsi_source_psy...`) has a voltage and a current there too, those that were negotiated:
only the monitors' names count.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tnn_edge.device.power import Unknown
from tnn_edge.device.sysfs_folder import SysfsFolder, subfolders

__all__ = ["Rail", "find_rails", "is_jetson"]

_CHANNELS = (1, 2, 3)
_NOT_CONNECTED = "NC"
_LEAST_W, _MOST_W = -1.0, 1000.0  # below 0: the offset of a rail that is off, -0.4 W were seen on a Thor's VDD_GPU


@dataclass(frozen=True)
class Rail:
    """One channel of a monitor.

    Attributes:
        chip: `INA3221` or `INA238`.
        label: what the board's device tree calls it.
        path: the monitor's folder.
        attributes: whose product is the power.
        unit_w: W for a product of 1.
        refresh_s: how old what the monitor says may be, 0 where it does not tell.
    """

    chip: str
    label: str
    path: Path
    attributes: tuple[str, ...]
    unit_w: float
    refresh_s: float = 0.0

    def read_w(self) -> float | Unknown:
        """Power of now in W; a little below 0 where a rail is off and its monitor has an offset."""
        folder = SysfsFolder(self.path)
        power_w = self.unit_w
        for attribute in self.attributes:
            value = folder.integer(attribute)
            if value is None:
                return Unknown(folder.notes[-1] if folder.notes else f"{folder.name}/{attribute}: is not there")
            power_w *= value
        if not _LEAST_W <= power_w <= _MOST_W:
            return Unknown(f"{folder.name}/{self.attributes[0]}: {self.label} outside {_LEAST_W:g} to {_MOST_W:g} W")
        return power_w


def find_rails(root: Path) -> tuple[Rail, ...]:
    """All rails that have a name and are connected, in the order of their folders; `root` is `/sys`."""
    rails: list[Rail] = []
    try:
        monitors = subfolders(root / "class" / "hwmon", "hwmon")
    except OSError:  # a kernel without the class, as JetPack 4's may be
        monitors = []
    for folder in monitors:
        name = folder.text("name")
        if name == "ina3221":
            rails += _ina3221(folder)
        elif name == "ina238":
            rails += _ina238(folder, is_jetson(root))
    for path in sorted((root / "bus" / "i2c" / "drivers" / "ina3221x").glob("*/iio:device*")):
        rails += _jetpack_4(SysfsFolder(path))
    return tuple(rails)


def is_jetson(root: Path) -> bool:
    """Whether the device tree says that this is a board with one of NVIDIA's Tegra chips."""
    compatible = SysfsFolder(root / "firmware" / "devicetree" / "base").text("compatible")
    return compatible is not None and "nvidia,tegra" in compatible


def _ina3221(folder: SysfsFolder) -> list[Rail]:
    milliseconds = folder.integer("update_interval")
    rails = []
    for channel in _CHANNELS:
        label = folder.text(f"in{channel}_label")
        if label is None or label == _NOT_CONNECTED or folder.integer(f"in{channel}_enable") == 0:
            continue
        attributes = (f"in{channel}_input", f"curr{channel}_input")
        refresh_s = 1e-3 * max(milliseconds or 0, 0)
        rails.append(Rail("INA3221", label, folder.path, attributes, 1e-6, refresh_s))
    return rails


def _ina238(folder: SysfsFolder, on_jetson: bool) -> list[Rail]:
    """The driver knows no labels; on a Jetson the chip sits at the input of the carrier board (AGX Thor)."""
    label = folder.text("label") or folder.text("in1_label") or ("VIN" if on_jetson else None)
    return [] if label is None else [Rail("INA238", label, folder.path, ("power1_input",), 1e-6)]


def _jetpack_4(folder: SysfsFolder) -> list[Rail]:
    names = ((channel, folder.text(f"rail_name_{channel}")) for channel in range(len(_CHANNELS)))
    return [
        Rail("INA3221", name, folder.path, (f"in_power{channel}_input",), 1e-3)
        for channel, name in names
        if name is not None and name != _NOT_CONNECTED
    ]
