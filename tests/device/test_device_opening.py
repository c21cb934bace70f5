"""Which power source a machine gets, and what is said when it has none."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.device.sysfs_tree import write_device
from tnn_edge.device import FirstKnown, PsutilPower, SysfsPower, open_power
from tnn_edge.errors import DeviceError


@pytest.fixture
def mouse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only battery of a board that runs from the mains, for psutil as well."""
    write_device(tmp_path / "hid-1-battery", type="Battery", scope="Device", capacity=80, status="Discharging")
    monkeypatch.setattr(psutil._pslinux, "POWER_SUPPLY_PATH", str(tmp_path))
    return tmp_path


def test_where_the_kernel_has_its_folder_it_is_asked_alone(mouse: Path) -> None:
    source = open_power(root=mouse)
    assert isinstance(source, SysfsPower)
    assert source.read().soc is None
    assert PsutilPower().read().soc == 0.8  # which is why


def test_without_the_folder_psutil_is_asked_and_the_reason_kept(mouse: Path) -> None:
    source = open_power(root=mouse / "nowhere")
    assert isinstance(source, FirstKnown)
    reading = source.read()
    assert reading.soc == 0.8
    assert reading.notes == (f"{mouse / 'nowhere'}: No such file or directory",)


def test_a_back_end_can_be_chosen(mouse: Path) -> None:
    assert isinstance(open_power(root=mouse / "nowhere", backend="sysfs"), SysfsPower)
    assert isinstance(open_power(root=mouse, backend="psutil"), PsutilPower)
    with pytest.raises(ValueError, match="backend must be one of auto, sysfs, psutil, got 'acpi'"):
        open_power(backend="acpi")  # type: ignore[arg-type]  # what a user may write


def test_a_board_without_a_battery_opens_and_a_battery_may_come_later(tmp_path: Path) -> None:
    source = open_power(root=tmp_path)
    assert not source.read().is_known
    write_device(tmp_path / "battery", type="Battery", capacity=64)
    assert source.read().soc == 0.64


def test_a_battery_that_is_needed_and_not_there_is_one_error_with_every_reason(mouse: Path) -> None:
    with pytest.raises(DeviceError, match="a battery is needed and its charge cannot be read") as info:
        open_power(root=mouse, need_battery=True)
    assert "no battery is reported; hid-1-battery/scope: Device" in str(info.value)
    assert isinstance(info.value, OSError)


def test_a_battery_that_is_needed_and_there_opens(tmp_path: Path) -> None:
    write_device(tmp_path / "battery", type="Battery", capacity=0, voltage_now=3_300_000)
    assert open_power(root=tmp_path, need_battery=True).read().soc == 0.0


def test_the_solar_charger_is_passed_on(tmp_path: Path) -> None:
    write_device(tmp_path / "solar", type="Mains", online=1)
    write_device(tmp_path / "battery", type="Battery", capacity=64, status="Charging")
    assert open_power(root=tmp_path, not_mains=["solar"]).read().on_mains is False
