"""The power rails of Jetson boards, and the energy that follows from them."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.device.energy_trees import write_tree
from tests.device.stepped_time import SteppedTime
from tests.device.sysfs_tree import write_device
from tnn_edge.device.power_rails import find_rails, is_jetson
from tnn_edge.device.rail_energy import rail_meter
from tnn_edge.device.sampled_energy import SampledMeter
from tnn_edge.errors import DeviceError


def meter_of(root: Path, time: SteppedTime) -> SampledMeter:
    return rail_meter(root, clock=time.clock, new_stop=time.new_stop)


BOARDS = [
    ("jetson_nano_jetpack4", "INA3221 POM_5V_IN", "module", 2.875),
    ("orin_nano", "INA3221 VDD_IN", "module", 4.984 * 0.960),
    (
        "agx_orin",
        "INA3221 VDD_GPU_SOC + VDD_CPU_CV + VIN_SYS_5V0",
        "module",
        12.008 * 0.280 + 12.008 * 0.040 + 4.968 * 0.980,
    ),
    ("agx_thor", "INA238 VIN", "board", 34.93),
]


@pytest.mark.parametrize(("board", "name", "scope", "power_w"), BOARDS, ids=[board for board, *_ in BOARDS])
def test_a_board_takes_what_its_total_says_or_its_rails_together(
    board: str, name: str, scope: str, power_w: float, tmp_path: Path
) -> None:
    time = SteppedTime()
    meter = meter_of(write_tree(board, tmp_path), time)
    assert meter.name.startswith(f"{name} ({tmp_path}")
    assert (meter.scope, meter.is_modelled) == (scope, False)
    assert meter.measure(lambda: time.advance(3.0)) == pytest.approx(3 * power_w)
    assert meter.notes == ()


@pytest.mark.parametrize("board", [board for board, *_ in BOARDS])
def test_a_jetson_is_told_by_its_device_tree(board: str, tmp_path: Path) -> None:
    assert is_jetson(write_tree(board, tmp_path))


@pytest.mark.parametrize("machine", ["intel_laptop", "amd_server"])
def test_a_computer_without_rails_is_told_so(machine: str, tmp_path: Path) -> None:
    root = write_tree(machine, tmp_path)
    assert not is_jetson(root)
    with pytest.raises(DeviceError, match="no INA3221 or INA238 power monitor with a named rail below"):
        rail_meter(root)


def test_channels_without_a_wire_sums_of_shunts_and_ports_are_no_rails(tmp_path: Path) -> None:
    rails = find_rails(write_tree("agx_orin", tmp_path))
    assert [rail.label for rail in rails] == ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"]


def test_a_thor_without_the_monitor_of_its_input_sums_the_rails_of_its_module(tmp_path: Path) -> None:
    root = write_tree("agx_thor", tmp_path)
    shutil.rmtree(root / "class/hwmon/hwmon4")
    time = SteppedTime()
    meter = meter_of(root, time)
    assert meter.scope == "module"
    power_w = 12.040 * 0.640 + 12.040 * 0.960 + 5.088 * 1.740
    assert meter.measure(lambda: time.advance(1.0)) == pytest.approx(power_w)


def test_the_offset_of_a_rail_that_is_off_counts_as_it_is(tmp_path: Path) -> None:
    """A Thor's idle VDD_GPU says -0.39 W; left out or cut at 0 it would make the sum too large."""
    root = write_tree("agx_thor", tmp_path)
    shutil.rmtree(root / "class/hwmon/hwmon4")
    write_device(root / "class/hwmon/hwmon3", in1_input=12_000, curr1_input=-32)
    time = SteppedTime()
    power_w = -12.0 * 0.032 + 12.040 * 0.960 + 5.088 * 1.740
    assert meter_of(root, time).measure(lambda: time.advance(1.0)) == pytest.approx(power_w)


def test_an_unlabelled_monitor_on_another_board_is_no_rail(tmp_path: Path) -> None:
    """A power meter on a Raspberry Pi's bus may watch anything."""
    write_device(tmp_path / "firmware/devicetree/base", compatible="raspberrypi,5-model-b\0brcm,bcm2712")
    chip = write_device(tmp_path / "class/hwmon/hwmon2", name="ina238", power1_input=5_000_000)
    assert find_rails(tmp_path) == ()
    write_device(chip, label="VIN")
    assert [rail.read_w() for rail in find_rails(tmp_path)] == [pytest.approx(5.0)]


def test_a_monitor_that_averages_long_is_read_less_often(tmp_path: Path) -> None:
    root = write_tree("orin_nano", tmp_path)
    assert rail_meter(root).period_s == 0.02
    write_device(root / "class/hwmon/hwmon1", update_interval=140)
    assert rail_meter(root).period_s == pytest.approx(0.14)


def lose(chip: Path) -> None:
    shutil.rmtree(chip)


def garble(chip: Path) -> None:
    write_device(chip, curr1_input="oops")


def empty(chip: Path) -> None:
    write_device(chip, curr1_input="")


def go_dark(chip: Path) -> None:
    write_device(chip, curr1_input=0)


def run_backwards(chip: Path) -> None:
    write_device(chip, curr1_input=-900)


def overflow(chip: Path) -> None:
    write_device(chip, curr1_input=32_767_000)


_PIPES: list[int] = []


def hang(chip: Path) -> None:
    """A pipe that somebody holds open and writes nothing to gives EAGAIN, as a sensor without power does."""
    (chip / "curr1_input").unlink()
    os.mkfifo(chip / "curr1_input")
    _PIPES.append(os.open(chip / "curr1_input", os.O_RDWR))


@pytest.fixture(autouse=True)
def closed_pipes() -> Iterator[None]:
    yield
    while _PIPES:
        os.close(_PIPES.pop())


FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (lose, "hwmon1/in1_input: is not there"),
    (garble, "hwmon1/curr1_input: 'oops' is no whole number"),
    (empty, "hwmon1/curr1_input: is empty"),
    (go_dark, "0 W or less, which no board that runs can take"),
    (run_backwards, "hwmon1/in1_input: VDD_IN outside -1 to 1000 W"),
    (overflow, "hwmon1/in1_input: VDD_IN outside -1 to 1000 W"),
    (hang, "hwmon1/curr1_input: Resource temporarily unavailable"),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_a_sensor_that_fails_in_the_middle_makes_the_energy_unknown(
    fault: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    root = write_tree("orin_nano", tmp_path)
    time = SteppedTime()
    meter = meter_of(root, time)

    def work() -> None:
        time.advance(1.0)
        fault(root / "class/hwmon/hwmon1")
        time.advance(1.0)

    assert meter.measure(work) is None
    assert reason in meter.notes


@pytest.mark.parametrize(("fault", "reason"), FAULTS[1:], ids=[fault.__name__ for fault, _ in FAULTS[1:]])
def test_a_sensor_that_fails_from_the_start_is_no_meter(
    fault: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    root = write_tree("orin_nano", tmp_path)
    fault(root / "class/hwmon/hwmon1")
    with pytest.raises(DeviceError, match=f"^INA3221 VDD_IN .*: {re.escape(reason)}$"):
        rail_meter(root)


def test_one_unreadable_rail_makes_the_sum_unknown(tmp_path: Path) -> None:
    """The rest would pass for the whole."""
    root = write_tree("agx_orin", tmp_path)
    (root / "class/hwmon/hwmon3/curr2_input").unlink()
    with pytest.raises(DeviceError, match="hwmon3/curr2_input: is not there"):
        rail_meter(root)


def test_a_single_reading_that_hangs_is_left_out(tmp_path: Path) -> None:
    root = write_tree("orin_nano", tmp_path)
    chip = root / "class/hwmon/hwmon1"
    time = SteppedTime()
    meter = meter_of(root, time)

    def work() -> None:
        time.advance(1.0)
        hang(chip)
        time.advance(0.05)
        (chip / "curr1_input").unlink()
        write_device(chip, curr1_input=960)
        time.advance(1.0)

    assert meter.measure(work) == pytest.approx(2.05 * 4.984 * 0.960)
    assert meter.notes == ("hwmon1/curr1_input: Resource temporarily unavailable",)
