"""Temperature from thermal zones and monitors, and from the plant, under one set of rules."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.device.sysfs_tree import write_device
from tnn_edge.device import SimulatedDevice, SimulatedThermometer, SysfsThermometer, Thermometer
from tnn_edge.plant import Battery


@dataclass(frozen=True)
class Rig:
    thermometer: Thermometer
    set_celsius: Callable[[float], None]
    lose_sensor: Callable[[], None]


def sysfs_rig(root: Path) -> Rig:
    zone = root / "thermal" / "thermal_zone0"

    def set_celsius(celsius: float) -> None:
        write_device(zone, type="cpu-thermal", temp=round(1000 * celsius))

    return Rig(SysfsThermometer(root), set_celsius, lambda: shutil.rmtree(zone))


def simulated_rig(root: Path) -> Rig:
    def device(celsius: float) -> SimulatedDevice:
        return SimulatedDevice(battery=Battery(usable_wh=1.0), soc=1.0, air_c=lambda _: celsius, clock=lambda: 0.0)

    thermometer = SimulatedThermometer(device(0.0))

    def set_celsius(celsius: float) -> None:
        thermometer.device = device(celsius)

    return Rig(thermometer, set_celsius, lambda: thermometer.fail("the sensor is gone"))


@pytest.fixture(params=[sysfs_rig, simulated_rig], ids=lambda make: make.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    made: Rig = request.param(tmp_path)
    return made


@pytest.mark.parametrize("celsius", [-20.5, 0.0, 43.0, 101.25])
def test_temperatures_are_in_degrees_celsius(rig: Rig, celsius: float) -> None:
    rig.set_celsius(celsius)
    assert rig.thermometer.read() == pytest.approx(celsius)
    assert rig.thermometer.notes == ()


def test_a_zone_without_a_temperature_is_unknown_with_a_reason(tmp_path: Path) -> None:
    write_device(tmp_path / "thermal" / "thermal_zone0", type="cpu-thermal")
    thermometer = SysfsThermometer(tmp_path)
    assert thermometer.read() is None
    assert thermometer.notes == ("thermal_zone0/temp: is not there",)


def test_a_sensor_that_vanishes_is_unknown_with_a_reason(rig: Rig) -> None:
    rig.set_celsius(50.0)
    assert rig.thermometer.read() is not None
    rig.lose_sensor()
    assert rig.thermometer.read() is None
    assert len(rig.thermometer.notes) == 1


def test_the_real_machine_can_be_read() -> None:
    thermometer = SysfsThermometer()
    celsius = thermometer.read()
    assert -60.0 <= celsius <= 150.0 if celsius is not None else thermometer.notes


@pytest.fixture
def jetson(tmp_path: Path) -> Path:
    """An Orin Nano: zones of engines that it does not have do not answer; a monitor repeats nothing."""
    for i, (kind, millidegrees) in enumerate(
        [("cpu-thermal", 47_468), ("gpu-thermal", 43_000), ("tj-thermal", 48_125)]
    ):
        write_device(tmp_path / "thermal" / f"thermal_zone{i}", type=kind, temp=millidegrees)
    write_device(tmp_path / "thermal" / "thermal_zone3", type="cv0-thermal", temp=-256_000)
    write_device(tmp_path / "thermal" / "cooling_device0", type="pwm-fan", cur_state=0)
    write_device(tmp_path / "hwmon" / "hwmon0", name="nvme", temp1_label="Composite", temp1_input=51_850)
    write_device(tmp_path / "hwmon" / "hwmon1", name="ina3221", in1_label="VDD_IN", in1_input=4_992)
    return tmp_path


def test_the_hottest_sensor_counts_and_a_zone_without_power_does_not(jetson: Path) -> None:
    thermometer = SysfsThermometer(jetson)
    assert thermometer.read() == pytest.approx(51.85)
    assert thermometer.notes == ("thermal_zone3/temp: outside -60 to 150 degrees C",)


@pytest.mark.parametrize(
    ("zone", "celsius"),
    [("tj-thermal", 48.125), ("GPU-thermal", 43.0), ("nvme", 51.85), ("Composite", 51.85)],
)
def test_a_sensor_may_be_named_by_zone_monitor_or_label(jetson: Path, zone: str, celsius: float) -> None:
    thermometer = SysfsThermometer(jetson, zone=zone)
    assert thermometer.read() == pytest.approx(celsius)
    assert thermometer.notes == ()


def test_of_several_sensors_with_one_name_the_hottest_counts(tmp_path: Path) -> None:
    write_device(tmp_path / "hwmon" / "hwmon0", name="coretemp", temp1_input=60_000, temp2_input=71_000)
    write_device(tmp_path / "hwmon" / "hwmon1", name="coretemp", temp1_input=65_000)
    write_device(tmp_path / "hwmon" / "hwmon2", name="iwlwifi_1", temp1_input=80_000)
    assert SysfsThermometer(tmp_path, zone="coretemp").read() == 71.0


def test_a_name_that_no_sensor_has_is_unknown_and_the_names_there_are_told(jetson: Path) -> None:
    thermometer = SysfsThermometer(jetson, zone="soc-thermal")
    assert thermometer.read() is None
    there = "Composite, cpu-thermal, cv0-thermal, gpu-thermal, nvme, tj-thermal"
    assert thermometer.notes == (f"no sensor is called 'soc-thermal'; there are {there}",)


def test_the_zone_that_always_says_100_degrees_is_passed_over(tmp_path: Path) -> None:
    write_device(tmp_path / "thermal" / "thermal_zone0", type="CPU-therm", temp=39_500)
    write_device(tmp_path / "thermal" / "thermal_zone4", type="PMIC-Die", temp=100_000)
    thermometer = SysfsThermometer(tmp_path)
    assert thermometer.read() == 39.5
    assert thermometer.notes == ("thermal_zone4/temp: PMIC-Die always says 100 degrees C",)


def test_a_zone_that_answers_try_again_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that somebody holds open and writes nothing to gives EAGAIN, as zones of absent engines do."""
    write_device(tmp_path / "thermal" / "thermal_zone0", type="cpu-thermal", temp=45_000)
    zone = write_device(tmp_path / "thermal" / "thermal_zone2", type="cv0-thermal")
    os.mkfifo(zone / "temp")
    writer = os.open(zone / "temp", os.O_RDWR)
    try:
        thermometer = SysfsThermometer(tmp_path)
        assert thermometer.read() == 45.0
        assert thermometer.notes == ("thermal_zone2/temp: Resource temporarily unavailable",)
    finally:
        os.close(writer)


@pytest.mark.parametrize("content", ["", "hot", "45.5", "4_5", "1" * 25, "\x00"])
def test_garbage_is_unknown_with_its_reason(tmp_path: Path, content: str) -> None:
    write_device(tmp_path / "thermal" / "thermal_zone0", type="cpu-thermal", temp=content)
    thermometer = SysfsThermometer(tmp_path)
    assert thermometer.read() is None
    assert len(thermometer.notes) == 1
    assert thermometer.notes[0].startswith("thermal_zone0/temp: ")


def test_the_notes_are_those_of_the_last_reading(tmp_path: Path) -> None:
    thermometer = SysfsThermometer(tmp_path)
    assert thermometer.read() is None
    assert thermometer.notes == (f"{tmp_path}: neither thermal zones nor temperatures of hardware monitors",)
    write_device(tmp_path / "thermal" / "thermal_zone0", type="cpu-thermal", temp=30_000)
    assert thermometer.read() == 30.0
    assert not thermometer.notes
