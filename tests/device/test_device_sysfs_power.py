"""Power supplies as real devices show them, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.device.sysfs_tree import write_device
from tnn_edge.device import PowerReading, SysfsPower, Unknown

NO_BATTERY = Unknown("no battery is reported")


def read(root: Path, *not_mains: str) -> PowerReading:
    return SysfsPower(root, not_mains=not_mains).read()


def fields(reading: PowerReading, names: str) -> list[Any]:
    return [getattr(reading, name) for name in names.split()]


def test_a_laptop_on_its_battery(tmp_path: Path) -> None:
    write_device(tmp_path / "AC", type="Mains", online=0)
    write_device(
        tmp_path / "BAT0",
        type="Battery",
        present=1,
        status="Discharging",
        capacity=77,
        energy_full_design=57_020_000,
        energy_full=50_000_000,
        energy_now=38_600_000,
        power_now=6_250_000,
        voltage_now=11_805_000,
    )
    reading = read(tmp_path)
    assert fields(reading, "soc charge_wh") == pytest.approx([38.6 / 50, 38.6])
    assert fields(reading, "full_wh battery_w") == pytest.approx([50.0, -6.25])
    assert (reading.on_mains, reading.power_in_w) == (False, 0.0)
    assert (reading.reasons, reading.notes) == ({}, ())


def test_the_adapter_of_a_laptop_does_not_say_what_it_delivers(tmp_path: Path) -> None:
    write_device(tmp_path / "ADP1", type="Mains", online=1)
    write_device(tmp_path / "BAT1", type="Battery", status="Charging", capacity=50, power_now=30_000_000)
    reading = read(tmp_path)
    assert fields(reading, "on_mains battery_w power_in_w") == pytest.approx([True, 30.0, None])
    assert reading.reasons["power_in_w"] == "a charger that may be online does not report voltage and current"


def test_a_hat_with_a_bare_gauge_knows_its_charge_and_nothing_else(tmp_path: Path) -> None:
    """MAX17040 on a Raspberry Pi: past full, a voltage that nobody scaled, and an `online` that means the gauge."""
    write_device(tmp_path / "battery", type="Battery", online=1, capacity=101, status="Unknown", voltage_now=53_744)
    reading = read(tmp_path)
    assert reading.soc == 1.0
    assert set(reading.reasons) == {"on_mains", "power_in_w", "battery_w", "charge_wh", "full_wh"}
    assert reading.notes == ("battery/voltage_now: outside 0.5 to 1000 V",)


def test_a_jetson_without_a_battery_knows_nothing_and_says_why(tmp_path: Path) -> None:
    write_device(tmp_path / "ucsi-source-psy-2-00081", type="USB", online=0, voltage_now=5_000_000, current_now=0)
    assert read(tmp_path) == PowerReading.of(
        soc=NO_BATTERY,
        on_mains=Unknown("no mains supply is online and no battery is reported"),
        power_in_w=Unknown("no charger is reported"),
        battery_w=NO_BATTERY,
        charge_wh=NO_BATTERY,
        full_wh=NO_BATTERY,
    )


def test_what_a_usb_port_negotiated_is_not_what_it_delivers(tmp_path: Path) -> None:
    write_device(tmp_path / "ucsi-source-psy-1", type="USB", online=1, voltage_now=20_000_000, current_now=3_000_000)
    reading = read(tmp_path)
    assert (reading.on_mains, reading.power_in_w) == (True, None)


def test_the_battery_of_a_mouse_is_not_that_of_the_device(tmp_path: Path) -> None:
    write_device(tmp_path / "hid-34:88:5d-battery", type="Battery", scope="Device", capacity=80, status="Discharging")
    write_device(tmp_path / "wacom_ac", type="Mains", scope="Device", online=1)
    reading = read(tmp_path)
    assert not reading.is_known
    assert reading.notes == tuple(
        f"{name}/scope: Device, it feeds a peripheral and is left out" for name in ("hid-34:88:5d-battery", "wacom_ac")
    )


def test_two_batteries_count_by_what_they_hold(tmp_path: Path) -> None:
    write_device(
        tmp_path / "BAT0",
        type="Battery",
        status="Full",
        energy_now=20_000_000,
        energy_full=20_000_000,
        power_now=0,
    )
    write_device(
        tmp_path / "BAT1",
        type="Battery",
        status="Discharging",
        energy_now=20_000_000,
        energy_full=60_000_000,
        power_now=9_000_000,
    )
    reading = read(tmp_path)
    assert reading.soc == pytest.approx((20 + 20) / (20 + 60))  # and not (1 + 1/3) / 2
    assert fields(reading, "charge_wh full_wh") == pytest.approx([40.0, 80.0])
    assert fields(reading, "battery_w on_mains") == pytest.approx([-9.0, False])


def test_half_a_pair_of_batteries_is_unknown(tmp_path: Path) -> None:
    write_device(tmp_path / "BAT0", type="Battery", energy_now=10_000_000, energy_full=20_000_000)
    write_device(tmp_path / "BAT1", type="Battery", capacity="n/a", energy_full=20_000_000)
    reading = read(tmp_path)
    assert fields(reading, "soc charge_wh full_wh") == pytest.approx([None, None, 40.0])
    assert reading.reasons["soc"] == "BAT1 reports no usable capacity, energy or charge"
    assert reading.notes == ("BAT1/capacity: 'n/a' is no whole number",)


def test_two_batteries_of_unknown_size_have_no_common_charge(tmp_path: Path) -> None:
    write_device(tmp_path / "a", type="Battery", capacity=20)
    write_device(tmp_path / "b", type="Battery", capacity=80)
    assert read(tmp_path).reasons["soc"] == "there are several batteries, and not all say how much they hold"


def test_an_empty_bay_is_no_battery(tmp_path: Path) -> None:
    write_device(tmp_path / "BAT0", type="Battery", present=1, capacity=60)
    write_device(tmp_path / "BAT1", type="Battery", present=0, capacity=0)
    reading = read(tmp_path)
    assert (reading.soc, reading.notes) == (0.6, ("BAT1/present: 0, the bay is empty",))


def test_charge_in_ampere_hours_counts_at_the_voltage_of_now(tmp_path: Path) -> None:
    write_device(
        tmp_path / "bq27541",
        type="Battery",
        status="Charging",
        charge_now=2_000_000,
        charge_full=5_000_000,
        voltage_now=3_800_000,
        current_now=1_500_000,
    )
    reading = read(tmp_path)
    assert reading.soc == pytest.approx(2 / 5)
    assert fields(reading, "charge_wh full_wh") == pytest.approx([2 * 3.8, 5 * 3.8])
    assert reading.battery_w == pytest.approx(1.5 * 3.8)


@pytest.mark.parametrize(
    ("status", "microamperes", "watts"),
    [
        ("Discharging", -2_000_000, -8.0),  # as the kernel asks
        ("Discharging", 2_000_000, -8.0),  # a driver without signs, or with the opposite ones
        ("Charging", 2_000_000, 8.0),
        ("Charging", -2_000_000, 8.0),
        ("Not charging", 0, 0.0),
        ("Full", -1_000, -0.004),
        ("Unknown", -2_000_000, -8.0),
        ("Unknown", 2_000_000, None),  # charging, or a driver without signs
    ],
)
def test_the_status_gives_the_current_its_sign(
    tmp_path: Path, status: str, microamperes: int, watts: float | None
) -> None:
    write_device(
        tmp_path / "BAT0", type="Battery", status=status, current_now=microamperes, voltage_now=4_000_000, capacity=50
    )
    assert read(tmp_path).battery_w == (None if watts is None else pytest.approx(watts))


@pytest.mark.parametrize(
    ("attributes", "soc", "note"),
    [
        ({"capacity": 50, "energy_now": 10_100_000, "energy_full": 20_000_000}, 0.505, None),
        ({"capacity": 80, "energy_now": 1_000_000, "energy_full": 20_000_000}, 0.8, "BAT0/capacity: differs"),
        ({"energy_now": 20_400_000, "energy_full": 20_000_000}, 1.0, None),
        ({"energy_now": 90_000_000, "energy_full": 20_000_000}, None, "BAT0/energy_now: outside 0 to 110 %"),
        ({"energy_now": -5, "energy_full": 20_000_000}, None, "BAT0/energy_now: too small to be true"),
        ({"energy_now": 0, "energy_full": 0}, None, "BAT0/energy_full: too small to be true"),
        ({"capacity": 0, "voltage_now": 3_100_000}, 0.0, None),
        ({"capacity": 0, "voltage_now": 0}, None, "BAT0/voltage_now: outside 0.5 to 1000 V"),
        ({"capacity": -1}, None, "BAT0/capacity: outside 0 to 110 %"),
        ({"capacity": 255}, None, "BAT0/capacity: outside 0 to 110 %"),
        ({"capacity": "5_0"}, None, "BAT0/capacity: '5_0' is no whole number"),
        ({"capacity": "9" * 30}, None, "BAT0/capacity: '99999999999999999999' is no whole number"),
        ({"capacity": "50.5"}, None, "BAT0/capacity: '50.5' is no whole number"),
        ({"capacity": ""}, None, "BAT0/capacity: is empty"),
        ({}, None, None),
    ],
)
def test_the_charge_is_what_can_be_believed(
    tmp_path: Path, attributes: dict[str, int | str], soc: float | None, note: str | None
) -> None:
    write_device(tmp_path / "BAT0", type="Battery", **attributes)
    reading = read(tmp_path)
    assert reading.soc == (None if soc is None else pytest.approx(soc))
    assert reading.charge_wh != 0.0
    assert any(line.startswith(note) for line in reading.notes) if note else not reading.notes


def test_the_charge_follows_the_gauge_where_the_two_differ(tmp_path: Path) -> None:
    write_device(tmp_path / "BAT0", type="Battery", capacity=80, energy_now=1_000_000, energy_full=20_000_000)
    assert read(tmp_path).charge_wh == pytest.approx(0.8 * 20.0)


def unreadable_as_folder(path: Path) -> None:
    path.mkdir()


def unreadable_as_loop(path: Path) -> None:
    path.symlink_to(path)


def unreadable_as_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xfe5\x000\x00")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (unreadable_as_folder, "Is a directory"),
        (unreadable_as_loop, "Too many levels of symbolic links"),
        (unreadable_as_bytes, "is not text"),
    ],
)
@pytest.mark.parametrize("attribute", ["capacity", "type"])
def test_a_file_that_cannot_be_read_is_unknown_with_its_reason(
    tmp_path: Path, spoil: Callable[[Path], None], reason: str, attribute: str
) -> None:
    battery = write_device(tmp_path / "BAT0", type="Battery", capacity=50)
    (battery / attribute).unlink()
    spoil(battery / attribute)
    reading = read(tmp_path)
    assert reading.soc is None
    assert reading.notes[0] == f"BAT0/{attribute}: {reason}"


def test_a_folder_that_is_not_there_is_the_reason_for_everything(tmp_path: Path) -> None:
    assert read(tmp_path / "x") == PowerReading.unknown(f"{tmp_path / 'x'}: No such file or directory")
    (tmp_path / "x").write_text("a file")
    assert read(tmp_path / "x") == PowerReading.unknown(f"{tmp_path / 'x'}: Not a directory")


def test_a_solar_charger_gives_power_and_no_mains(tmp_path: Path) -> None:
    write_device(tmp_path / "bq25798", type="Mains", online=1, voltage_now=18_000_000, current_now=1_200_000)
    write_device(tmp_path / "battery", type="Battery", capacity=40, status="Charging")
    reading = read(tmp_path, "bq25798")
    assert fields(reading, "on_mains power_in_w") == pytest.approx([False, 18.0 * 1.2])
    assert read(tmp_path).on_mains is True


@pytest.mark.parametrize(
    ("microamperes", "note"),
    [(-1_000_000, "usb/current_now: no charger"), (2 * 10**9, "usb/current_now: no charger")],
)
def test_a_charger_cannot_deliver_the_impossible(tmp_path: Path, microamperes: int, note: str) -> None:
    write_device(tmp_path / "usb", type="USB", online=1, voltage_now=9_000_000, current_now=microamperes)
    reading = read(tmp_path)
    assert reading.power_in_w is None
    assert reading.notes[0].startswith(note)


@pytest.mark.parametrize(
    ("status", "watts"),
    [("Discharging", 0.0), ("Charging", None), ("Full", None), (None, None)],
)
def test_no_power_comes_in_only_where_the_battery_confirms_it(
    tmp_path: Path, status: str | None, watts: float | None
) -> None:
    write_device(tmp_path / "AC", type="Mains", online=0)
    if status is not None:
        write_device(tmp_path / "BAT0", type="Battery", capacity=50, status=status)
    assert read(tmp_path).power_in_w == watts


MAINS_OFF = {"type": "Mains", "online": 0}
MAINS_ON = {"type": "Mains", "online": 1}
USB_ON = {"type": "USB", "online": 1}


@pytest.mark.parametrize(
    ("chargers", "status", "on_mains"),
    [
        ([MAINS_ON], "Charging", True),
        ([MAINS_ON], "Discharging", True),  # a threshold, or an adapter that is too weak
        ([MAINS_OFF], "Discharging", False),
        ([MAINS_OFF], "Not charging", False),
        ([MAINS_OFF], "Charging", None),  # through a USB port that the firmware hides, or by a panel
        ([MAINS_OFF, USB_ON], "Charging", True),
        ([{"type": "USB_PD", "online": 2}], "Full", True),
        ([MAINS_OFF, USB_ON], "Discharging", None),  # the port may feed a telephone
        ([MAINS_OFF, {**USB_ON, "status": "Discharging"}], "Full", False),  # and here it says so
        ([{"type": "Mains", "online": "?"}], "Not charging", None),
        ([{"type": "Mains", "online": 7}], "Full", None),
        ([], "Discharging", False),
        ([], "Charging", None),
        ([], "Full", None),
        ([MAINS_OFF], None, None),  # no battery, yet something feeds the device
        ([USB_ON], None, True),
    ],
)
def test_mains_is_told_from_what_chargers_and_battery_say_together(
    tmp_path: Path, chargers: list[dict[str, str | int]], status: str | None, on_mains: bool | None
) -> None:
    for i, charger in enumerate(chargers):
        write_device(tmp_path / f"charger{i}", **charger)
    if status is not None:
        write_device(tmp_path / "BAT0", type="Battery", capacity=50, status=status)
    reading = read(tmp_path)
    assert reading.on_mains is on_mains
    assert ("on_mains" in reading.reasons) is (on_mains is None)
