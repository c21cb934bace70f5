"""What every power source keeps: one suite over the kernel's files, the real psutil, and the plant."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.sysfs_tree import write_device
from tnn_edge.device import (
    FirstKnown,
    PowerReading,
    PowerSource,
    PsutilPower,
    SimulatedDevice,
    SimulatedPower,
    SysfsPower,
    Unknown,
)
from tnn_edge.plant import Battery

FULL_WH = 40.0
LOAD_W = 5.0
FIELDS = ("soc", "on_mains", "power_in_w", "battery_w", "charge_wh", "full_wh")


@dataclass(frozen=True)
class Rig:
    """A source and the three things that can happen to its device, whose battery holds 40 Wh and gives 5 W."""

    source: PowerSource
    set_soc: Callable[[float], None]
    set_mains: Callable[[bool], None]
    lose_battery: Callable[[], None]


def laptop_rig(root: Path, source: PowerSource) -> Rig:
    battery, mains = root / "BAT0", root / "AC"

    def set_soc(soc: float) -> None:
        microwatt_hours = round(soc * FULL_WH * 1e6)
        write_device(battery, energy_now=microwatt_hours, capacity=round(100 * soc))

    def set_mains(is_on: bool) -> None:
        write_device(mains, online=int(is_on))
        write_device(battery, status="Charging" if is_on else "Discharging")

    write_device(mains, type="Mains", online=0)
    write_device(battery, type="Battery", energy_full=round(FULL_WH * 1e6), power_now=round(LOAD_W * 1e6))
    set_soc(0.5)
    set_mains(False)
    return Rig(source, set_soc, set_mains, lambda: shutil.rmtree(battery))


def sysfs_rig(root: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return laptop_rig(root, SysfsPower(root))


def psutil_rig(root: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", str(root))
    return laptop_rig(root, PsutilPower())


def chained_rig(root: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    return laptop_rig(root, FirstKnown([SysfsPower(root / "nowhere"), SysfsPower(root)]))


class PlantRig:
    """The plant with a clock that stands still; each state of charge is a new device behind the same source."""

    def __init__(self) -> None:
        self.source = SimulatedPower(self._device(0.5))

    def _device(self, soc: float) -> SimulatedDevice:
        battery = Battery(usable_wh=FULL_WH, discharge_efficiency=1.0)
        return SimulatedDevice(battery=battery, soc=soc, load_w=LOAD_W, clock=lambda: 0.0)

    def set_soc(self, soc: float) -> None:
        self.source.device = self._device(soc)

    def set_mains(self, is_on: bool) -> None:
        self.source.device.mains_w = 20.0 if is_on else 0.0


def simulated_rig(root: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    plant = PlantRig()
    return Rig(plant.source, plant.set_soc, plant.set_mains, lambda: plant.source.fail("the gauge is gone"))


@pytest.fixture(params=[sysfs_rig, psutil_rig, chained_rig, simulated_rig], ids=lambda make: make.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    made: Rig = request.param(tmp_path, monkeypatch)
    return made


def check_promises(reading: PowerReading) -> None:
    """What holds of any reading, whatever was read."""
    assert reading.soc is None or 0.0 <= reading.soc <= 1.0
    assert reading.on_mains in {None, False, True}
    for name in ("power_in_w", "charge_wh", "full_wh"):
        value = getattr(reading, name)
        assert value is None or value >= 0.0
    assert set(reading.reasons) == {name for name in FIELDS if getattr(reading, name) is None}
    assert all(reading.reasons.values())


@pytest.mark.parametrize("soc", [0.01, 0.25, 0.5, 0.995, 1.0])
def test_the_state_of_charge_is_a_share_of_what_the_battery_holds(rig: Rig, soc: float) -> None:
    rig.set_soc(soc)
    reading = rig.source.read()
    check_promises(reading)
    assert reading.soc == pytest.approx(soc)


def test_energies_and_powers_are_in_watt_hours_and_watts_or_unknown(rig: Rig) -> None:
    rig.set_soc(0.25)
    reading = rig.source.read()
    assert reading.charge_wh in (None, pytest.approx(0.25 * FULL_WH))
    assert reading.full_wh in (None, pytest.approx(FULL_WH))
    assert reading.battery_w in (None, pytest.approx(-LOAD_W))


def test_plugging_in_is_seen_and_unplugging_too(rig: Rig) -> None:
    seen = []
    for is_on in (False, True, False):
        rig.set_mains(is_on)
        reading = rig.source.read()
        check_promises(reading)
        seen.append(reading.on_mains)
        assert reading.battery_w is None or (reading.battery_w > 0.0) is is_on
    assert seen == [False, True, False]


def test_a_battery_that_vanishes_is_unknown_and_not_empty(rig: Rig) -> None:
    assert rig.source.read().soc is not None
    rig.lose_battery()
    reading = rig.source.read()
    check_promises(reading)
    assert (reading.soc, reading.charge_wh, reading.full_wh, reading.battery_w) == (None, None, None, None)


def test_a_reading_changes_nothing(rig: Rig) -> None:
    assert rig.source.read() == rig.source.read()


def test_the_real_machine_can_be_read() -> None:
    for source in (SysfsPower(), PsutilPower()):
        check_promises(source.read())


ATTRIBUTES = (
    "type status capacity online scope present voltage_now current_now power_now energy_now energy_full charge_now "
    "charge_full"
).split()
CONTENTS = st.one_of(
    st.sampled_from(
        [
            b"Battery",
            b"Mains",
            b"USB",
            b"Device",
            b"Charging",
            b"Discharging",
            b"Unknown",
            b"0",
            b"1",
            b"100",
            b"\xff\xfe",
        ]
    ),
    st.integers(-(10**19), 10**19).map(lambda value: str(value).encode()),
    st.integers(0, 10**8).map(lambda value: str(value).encode()),
    st.binary(max_size=12),
)
FOLDERS = st.lists(st.dictionaries(st.sampled_from(ATTRIBUTES), CONTENTS), max_size=3)


@given(folders=FOLDERS)
def test_no_content_of_the_files_raises_or_breaks_a_promise(folders: list[dict[str, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as root:
        for i, attributes in enumerate(folders):
            folder = write_device(Path(root) / f"BAT{i}", type="Battery")
            for name, content in attributes.items():
                (folder / name).write_bytes(content)
        check_promises(SysfsPower(Path(root)).read())
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", root)
            check_promises(PsutilPower().read())


def test_psutil_takes_a_battery_it_cannot_measure_for_empty_and_that_is_unknown_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", str(tmp_path))
    write_device(tmp_path / "BAT0", type="Battery", energy_now=0, energy_full=0, status="Discharging")
    battery = psutil.sensors_battery()
    assert battery is not None and battery.percent == 0.0
    reading = PsutilPower().read()
    assert (reading.soc, reading.on_mains) == (None, False)
    assert reading.reasons["soc"] == "psutil gives no usable percentage"


def test_psutil_without_batteries_and_a_failing_psutil_say_so() -> None:
    def fails() -> None:
        raise FileNotFoundError(2, "No such file or directory", "/sys/class/power_supply")

    assert PsutilPower(None).read() == PowerReading.unknown("psutil reads no batteries on this system")
    assert PsutilPower(lambda: None).read() == PowerReading.unknown("psutil finds no battery")
    assert PsutilPower(fails).read().reasons["soc"].startswith("psutil: [Errno 2] No such file")


def test_a_chain_keeps_why_the_first_source_did_not_answer(tmp_path: Path) -> None:
    write_device(tmp_path / "BAT0", type="Battery", capacity=42)
    chain = FirstKnown([SysfsPower(tmp_path / "nowhere"), SysfsPower(tmp_path), PsutilPower(lambda: None)])
    reading = chain.read()
    assert reading.soc == 0.42
    assert reading.notes == (f"{tmp_path / 'nowhere'}: No such file or directory",)


def test_a_chain_of_which_no_source_answers_keeps_every_reason(tmp_path: Path) -> None:
    reading = FirstKnown([SysfsPower(tmp_path / "nowhere"), PsutilPower(lambda: None)]).read()
    assert not reading.is_known
    assert reading.reasons["soc"] == "psutil finds no battery"
    assert reading.notes == (f"{tmp_path / 'nowhere'}: No such file or directory",)
    with pytest.raises(ValueError, match="sources must name at least one"):
        FirstKnown([])


def test_no_reading_can_be_made_that_breaks_a_bound() -> None:
    why = Unknown("not asked")
    for soc in (-0.01, 1.01, float("nan")):
        with pytest.raises(ValueError, match=r"soc must lie in \[0, 1\] or be None"):
            PowerReading.of(soc=soc, on_mains=why, power_in_w=why, battery_w=why, charge_wh=why, full_wh=why)
    for name in ("power_in_w", "charge_wh", "full_wh"):
        fields: dict[str, Any] = dict.fromkeys(FIELDS)
        with pytest.raises(ValueError, match=f"{name} must not be negative, got -1"):
            PowerReading(**{**fields, name: -1.0})
