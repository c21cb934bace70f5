"""How hot the board is: the kernel's thermal zones and hardware monitors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tnn_edge.device.sysfs_folder import SysfsFolder, subfolders

__all__ = ["SysfsThermometer", "Thermometer"]

_LOWEST_C, _HIGHEST_C = -60.0, 150.0  # outside, it is no board: a Jetson's zone without power says -256 degrees C
# This zone of Jetson Nano, TX2 and Xavier holds 100 degrees C whatever the temperature (balena-os/balena-jetson #142).
_PLACEHOLDER = ("PMIC-Die", 100_000)


class Thermometer(Protocol):
    """Whatever can say how hot the device is."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last reading could not use, and why; never empty after a reading of None."""
        ...

    def read(self) -> float | None:
        """Temperature in degrees C, None where it is unknown; never raises."""
        ...


@dataclass(frozen=True, eq=False)
class _Sensor:
    """One file that holds thousandths of a degree C, and the names it goes by."""

    folder: SysfsFolder
    attribute: str
    names: tuple[str, ...]

    def read(self) -> float | None:
        """Temperature in degrees C, None where the file holds none that can be true."""
        millidegrees = self.folder.integer(self.attribute)
        if millidegrees is None:
            if not self.folder.notes:
                self.folder.note(self.attribute, "is not there")
            return None
        if _PLACEHOLDER[0] in self.names and millidegrees == _PLACEHOLDER[1]:
            self.folder.note(self.attribute, f"{_PLACEHOLDER[0]} always says 100 degrees C")
            return None
        celsius = millidegrees / 1000.0
        if not _LOWEST_C <= celsius <= _HIGHEST_C:
            self.folder.note(self.attribute, f"outside {_LOWEST_C:g} to {_HIGHEST_C:g} degrees C")
            return None
        return celsius


class SysfsThermometer:
    """The hottest of the kernel's thermal zones and hardware monitors, looked up afresh at each reading.

    Args:
        root: folder of the kernel's classes, of which `thermal` and `hwmon` are read.
        zone: the sensor that counts, by the type of a thermal zone, the name of a monitor or the label of one of its
            inputs, in any case: `cpu-thermal`, `k10temp`, `Tctl`. Of several with one name the hottest counts.
    """

    def __init__(self, root: Path = Path("/sys/class"), *, zone: str | None = None) -> None:
        self.root = Path(root)
        self.zone = zone
        self._notes: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """What the last reading could not use, and why."""
        return self._notes

    def read(self) -> float | None:
        """Temperature in degrees C, None where no sensor that counts gives one."""
        sensors = [*self._zones(), *self._monitors()]
        asked = sensors if self.zone is None else [s for s in sensors if _is_named(s, self.zone)]
        values = [value for value in (sensor.read() for sensor in asked) if value is not None]
        notes = dict.fromkeys(note for sensor in asked for note in sensor.folder.notes)
        if not sensors:
            notes[f"{self.root}: neither thermal zones nor temperatures of hardware monitors"] = None
        elif not asked:
            there = ", ".join(sorted({name for sensor in sensors for name in sensor.names}))
            notes[f"no sensor is called {self.zone!r}; there are {there}"] = None
        self._notes = tuple(notes)
        return max(values, default=None)

    def _zones(self) -> list[_Sensor]:
        zones = _listed(self.root / "thermal", "thermal_zone")
        return [_Sensor(zone, "temp", _names(zone, "type")) for zone in zones]

    def _monitors(self) -> list[_Sensor]:
        sensors = []
        for monitor in _listed(self.root / "hwmon", "hwmon"):
            for path in sorted(monitor.path.glob("temp[0-9]*_input")):
                label = path.name.replace("_input", "_label")
                sensors.append(_Sensor(monitor, path.name, _names(monitor, "name", label)))
        return sensors


def _listed(root: Path, prefix: str) -> list[SysfsFolder]:
    """The folders of a class; a class that this kernel does not have has none."""
    try:
        return subfolders(root, prefix)
    except OSError:
        return []


def _names(folder: SysfsFolder, *attributes: str) -> tuple[str, ...]:
    return tuple(text for attribute in attributes if (text := folder.text(attribute)) is not None)


def _is_named(sensor: _Sensor, name: str) -> bool:
    return name.casefold() in {own.casefold() for own in sensor.names}
