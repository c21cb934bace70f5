"""Energy from a battery, from a model, and which meter a machine gets."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.energy_trees import write_tree
from tests.device.stepped_time import SteppedTime
from tests.device.sysfs_tree import write_device
from tnn_edge.device import SysfsPower
from tnn_edge.device.battery_energy import battery_meter
from tnn_edge.device.counted_energy import CountedMeter, EnergyCounter
from tnn_edge.device.energy import EnergyMeter
from tnn_edge.device.energy_choice import best_meter
from tnn_edge.device.modelled_energy import ModelledMeter
from tnn_edge.device.rail_energy import rail_meter
from tnn_edge.device.sampled_energy import SampledMeter
from tnn_edge.errors import DeviceError


def no_gpu_library() -> None:
    raise ModuleNotFoundError("No module named 'pynvml'")


@pytest.fixture
def unplugged(tmp_path: Path) -> Path:
    """A laptop's supplies while its battery gives 6.25 W."""
    write_device(tmp_path / "AC", type="Mains", online=0)
    write_device(tmp_path / "BAT0", type="Battery", status="Discharging", power_now=6_250_000, voltage_now=11_805_000)
    return tmp_path


def battery_of(root: Path, time: SteppedTime, *not_mains: str) -> SampledMeter:
    return battery_meter(SysfsPower(root, not_mains=not_mains), clock=time.clock, new_stop=time.new_stop)


def test_a_battery_gives_what_the_device_takes(unplugged: Path) -> None:
    time = SteppedTime()
    meter = battery_of(unplugged, time)
    assert (meter.name, meter.scope, meter.is_modelled, meter.least_s) == ("battery", "battery", False, 40.0)

    def work() -> None:
        time.advance(30.0)
        write_device(unplugged / "BAT0", power_now=8_000_000)
        time.advance(30.0)

    # the step falls between the readings at 30 s and 32 s, where power counts as linear
    assert meter.measure(work) == pytest.approx(30 * 6.25 + 2 * (6.25 + 8.0) / 2 + 28 * 8.0)


def test_a_gauge_that_only_knows_current_is_enough(tmp_path: Path) -> None:
    write_device(tmp_path / "battery", type="Battery", status="Discharging", current_now=900_000, voltage_now=3_700_000)
    time = SteppedTime()
    assert battery_of(tmp_path, time).measure(lambda: time.advance(50.0)) == pytest.approx(50 * 0.9 * 3.7)


def test_a_laptop_that_is_plugged_in_meanwhile_is_unknown(unplugged: Path) -> None:
    time = SteppedTime()
    meter = battery_of(unplugged, time)

    def work() -> None:
        time.advance(30.0)
        write_device(unplugged / "AC", online=1)
        write_device(unplugged / "BAT0", status="Charging")
        time.advance(30.0)

    assert meter.measure(work) is None
    assert "mains power feeds the device; unplug it to measure" in meter.notes


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"AC": {"online": 1}}, "mains power feeds the device; unplug it to measure"),
        ({"BAT0": {"power_now": 0}}, "the battery does not discharge"),
        ({"BAT0": {"status": "Charging"}}, "the battery charges from something that is not reported"),
        ({"BAT0": {"power_now": "soon"}}, "BAT0 reports no usable power or current"),
        ({"BAT0": {"type": "Mouse"}}, "no battery is reported"),
    ],
)
def test_a_battery_that_does_not_feed_the_device_is_no_meter(
    change: dict[str, dict[str, str | int]], reason: str, unplugged: Path
) -> None:
    for supply, attributes in change.items():
        write_device(unplugged / supply, **attributes)
    with pytest.raises(DeviceError, match=f"^no energy from a battery: {reason}$"):
        battery_meter(SysfsPower(unplugged))


def test_a_panel_that_helps_the_battery_makes_its_energy_unknown(unplugged: Path) -> None:
    shutil.rmtree(unplugged / "AC")
    write_device(unplugged / "panel", type="USB", online=1, voltage_now=5_000_000, current_now=400_000)
    with pytest.raises(DeviceError, match="a charger or a panel feeds the device as well"):
        battery_meter(SysfsPower(unplugged, not_mains=["panel"]))


@given(
    busy_core_w=st.floats(0.0, 20.0),
    joules_per_gmac=st.floats(1e-4, 1.0),
    cpu_s=st.floats(1e-3, 100.0),
    macs=st.integers(1_000_000, 10**12),
)
def test_the_model_is_its_formula(busy_core_w: float, joules_per_gmac: float, cpu_s: float, macs: int) -> None:
    clock_s = iter([10.0, 10.0 + cpu_s])
    meter = ModelledMeter(busy_core_w=busy_core_w, joules_per_gmac=joules_per_gmac, cpu_clock=lambda: next(clock_s))
    energy_j = meter.measure(lambda: None, macs=macs)
    assert energy_j == pytest.approx(busy_core_w * cpu_s + joules_per_gmac * macs / 1e9)


def test_the_model_says_that_it_is_one_and_its_coefficients() -> None:
    meter = ModelledMeter(busy_core_w=7.5, joules_per_gmac=0.02)
    assert meter.name == "model (7.5 W a busy core, 20 mJ a GMAC)"
    assert (meter.scope, meter.is_modelled) == ("cpu (modelled)", True)


def test_the_model_counts_the_time_that_this_process_computes() -> None:
    meter = ModelledMeter(busy_core_w=1.0, joules_per_gmac=0.0)
    energy_j = meter.measure(lambda: sum(i * i for i in range(300_000)))
    assert energy_j is not None
    assert 1e-3 < energy_j < 10.0


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_coefficients_must_be_finite(value: float) -> None:
    with pytest.raises(ValueError, match="busy_core_w must be a finite number, at least 0, got"):
        ModelledMeter(busy_core_w=value)
    with pytest.raises(ValueError, match="joules_per_gmac must be a finite number, at least 0, got"):
        ModelledMeter(joules_per_gmac=value)


def test_multiply_adds_cannot_be_negative() -> None:
    with pytest.raises(ValueError, match="macs must be at least 0, got -1"):
        ModelledMeter().measure(lambda: None, macs=-1)


@dataclass(frozen=True)
class Rig:
    meter: EnergyMeter
    run: Callable[[], None]
    """Work that is long enough, and takes energy."""


def rails(root: Path) -> Rig:
    time = SteppedTime()
    meter = rail_meter(write_tree("orin_nano", root), clock=time.clock, new_stop=time.new_stop)
    return Rig(meter, lambda: time.advance(1.0))


def counter(root: Path) -> Rig:
    time = SteppedTime()
    counters = [EnergyCounter("zone", lambda: round(1e6 * time.now_s), 1e-6)]
    meter = CountedMeter(counters, name="counter", scope="cpu package", refresh_s=0.001, clock=time.clock)
    return Rig(meter, lambda: time.advance(1.0))


def battery(root: Path) -> Rig:
    write_device(root / "BAT0", type="Battery", status="Discharging", power_now=3_000_000, voltage_now=7_400_000)
    time = SteppedTime()
    return Rig(battery_of(root, time), lambda: time.advance(60.0))


def model(root: Path) -> Rig:
    time = SteppedTime()
    return Rig(ModelledMeter(cpu_clock=time.clock), lambda: time.advance(1.0))


@pytest.fixture(params=[rails, counter, battery, model], ids=lambda make: make.__name__)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Rig:
    made: Rig = request.param(tmp_path)
    return made


def test_every_meter_runs_the_work_once_and_says_above_zero(rig: Rig) -> None:
    n_runs = 0

    def work() -> None:
        nonlocal n_runs
        n_runs += 1
        rig.run()

    energy_j = rig.meter.measure(work, macs=10**9)
    assert n_runs == 1
    assert energy_j is not None
    assert energy_j > 0.0
    assert rig.meter.notes == ()
    assert rig.meter.name
    assert rig.meter.scope


def test_every_meter_says_none_and_why_where_no_time_passed(rig: Rig) -> None:
    assert rig.meter.measure(lambda: None) is None
    assert rig.meter.notes


def test_every_meter_passes_on_what_the_work_raises_and_measures_again(rig: Rig) -> None:
    with pytest.raises(ZeroDivisionError):
        rig.meter.measure(lambda: 1 // 0)
    assert rig.meter.measure(rig.run) is not None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("board", ["jetson_nano_jetpack4", "orin_nano", "agx_orin", "agx_thor"])
def test_a_jetson_is_measured_by_its_rails_whatever_runs_the_network(board: str, device: str, tmp_path: Path) -> None:
    meter, refusals = best_meter(write_tree(board, tmp_path), device=device)  # type: ignore[arg-type] # a parameter
    assert meter.name.startswith("INA")
    assert refusals == ()


def test_a_laptop_is_measured_by_its_processor_and_the_missing_rails_are_told(tmp_path: Path) -> None:
    meter, refusals = best_meter(write_tree("intel_laptop", tmp_path))
    assert meter.name.startswith("RAPL psys")
    assert refusals == (f"no INA3221 or INA238 power monitor with a named rail below {tmp_path / 'class/hwmon'}",)


def test_an_unplugged_laptop_without_counters_is_measured_by_its_battery(tmp_path: Path) -> None:
    root = write_tree("intel_laptop", tmp_path)
    shutil.rmtree(root / "class/powercap")
    write_device(root / "class/power_supply/AC", online=0)
    write_device(root / "class/power_supply/BAT0", status="Discharging")
    meter, refusals = best_meter(root)
    assert meter.name == "battery"
    assert len(refusals) == 2


def test_a_machine_with_nothing_gets_the_model_and_every_reason(tmp_path: Path) -> None:
    meter, refusals = best_meter(tmp_path)
    assert meter.is_modelled
    assert [reason.partition(":")[0] for reason in refusals] == [
        f"no INA3221 or INA238 power monitor with a named rail below {tmp_path / 'class/hwmon'}",
        "no RAPL",
        "no energy from a battery",
    ]


def test_a_network_on_a_gpu_is_not_measured_by_the_processors_counters(tmp_path: Path) -> None:
    meter, refusals = best_meter(write_tree("amd_server", tmp_path), device="cuda", load_gpu_library=no_gpu_library)
    assert meter.is_modelled
    assert len(refusals) == 4
    assert "pip install nvidia-ml-py" in refusals[1]
    assert refusals[-1] == "the model knows the CPU alone: what the GPU takes is not in it"


def test_a_device_nobody_meters_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="device must be one of cpu, cuda, got 'npu'"):
        best_meter(tmp_path, device="npu")  # type: ignore[arg-type] # what is tested


def test_this_machine_has_a_meter() -> None:
    meter, refusals = best_meter()
    energy_j = meter.measure(lambda: sum(i * i for i in range(300_000)), macs=300_000)
    assert energy_j > 0.0 if energy_j is not None else meter.notes
    assert refusals or not meter.is_modelled
