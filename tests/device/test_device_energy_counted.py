"""Energy counters of processors and graphics cards."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.energy_trees import write_tree
from tests.device.stepped_time import SteppedTime
from tests.device.sysfs_tree import write_device
from tnn_edge.device.counted_energy import CountedMeter, counts_between
from tnn_edge.device.nvml_energy import nvml_meter
from tnn_edge.device.power import Unknown
from tnn_edge.device.rapl_energy import rapl_meter
from tnn_edge.errors import DeviceError

LAPTOP_RANGE_UJ = 262_143_328_850


@given(
    range_counts=st.integers(2, 2**40),
    start=st.integers(0, 2**40),
    share=st.floats(0.0, 1.0),
    slack=st.floats(1.0, 1.5),
)
def test_a_counter_that_begins_anew_at_most_once_is_read_exactly(
    range_counts: int, start: int, share: float, slack: float
) -> None:
    counted = max(1, min(int(share * range_counts), range_counts - 1))
    before, after = start % range_counts, (start + counted) % range_counts
    most = counted * slack
    read = counts_between(before, after, range_counts=range_counts, most=most)
    if counted + range_counts <= most:
        assert isinstance(read, Unknown)
    else:
        assert read == counted


@pytest.mark.parametrize(
    ("before", "after", "range_counts", "reason"),
    [
        (70, 20, None, "the counter ran backwards"),
        (70, 20, 40, "the counter ran backwards"),
        (70, 70, 100, "the counter stood still"),
        (10, 95, 100, "the counter jumped further than it can have counted"),
        (95, 85, 100, "the counter jumped further than it can have counted"),
        (10, 20, 30, "the work took so long that the counter may have begun anew unseen"),
    ],
)
def test_counts_that_cannot_be_told_are_unknown(before: int, after: int, range_counts: int | None, reason: str) -> None:
    assert counts_between(before, after, range_counts=range_counts, most=50) == Unknown(reason)


def add_uj(root: Path, zone: str, joules: float) -> None:
    """Let a zone's counter count on, and begin anew where its range ends."""
    folder = root / "class/powercap" / zone
    energy = int((folder / "energy_uj").read_text()) + round(1e6 * joules)
    energy %= int((folder / "max_energy_range_uj").read_text())
    write_device(folder, energy_uj=energy)


def measured(meter: CountedMeter, time: SteppedTime, change: Callable[[], None], took_s: float = 1.0) -> float | None:
    def work() -> None:
        time.advance(took_s)
        change()

    return meter.measure(work)


def test_a_platform_counter_is_taken_before_the_package(tmp_path: Path) -> None:
    root = write_tree("intel_laptop", tmp_path)
    time = SteppedTime()
    meter = rapl_meter(root, clock=time.clock)
    assert meter.name == f"RAPL psys ({root / 'class/powercap'})"
    assert (meter.scope, meter.is_modelled) == ("platform", False)
    assert measured(meter, time, lambda: add_uj(root, "intel-rapl:1", 17.25)) == pytest.approx(17.25)


def without_psys(root: Path) -> dict[str, bool]:
    shutil.rmtree(root / "class/powercap/intel-rapl:1")
    return {}


def dead_psys(root: Path) -> dict[str, bool]:
    write_device(root / "class/powercap/intel-rapl:1", energy_uj=0)
    return {}


def unwanted_psys(root: Path) -> dict[str, bool]:
    return {"use_psys": False}


@pytest.mark.parametrize("prepare", [without_psys, dead_psys, unwanted_psys], ids=lambda make: make.__name__)
def test_a_package_counts_once_its_parts_being_in_it(
    prepare: Callable[[Path], dict[str, bool]], tmp_path: Path
) -> None:
    root = write_tree("intel_laptop", tmp_path)
    time = SteppedTime()
    meter = rapl_meter(root, clock=time.clock, **prepare(root))
    assert (meter.name, meter.scope) == (f"RAPL package-0 ({root / 'class/powercap'})", "cpu package")

    def count() -> None:
        for zone, joules in (("intel-rapl:0", 9.5), ("intel-rapl:0:0", 6.0), ("intel-rapl:0:1", 0.5)):
            add_uj(root, zone, joules)
        add_uj(root, "intel-rapl-mmio:0", 9.5)

    assert measured(meter, time, count) == pytest.approx(9.5)


def test_packages_are_summed_and_a_counter_may_begin_anew(tmp_path: Path) -> None:
    """The first socket's counter stands 0.61 J before its end."""
    root = write_tree("amd_server", tmp_path)
    time = SteppedTime()
    meter = rapl_meter(root, clock=time.clock)
    assert meter.name.startswith("RAPL package-0 + package-1 (")

    def count() -> None:
        add_uj(root, "intel-rapl:0", 60.0)
        add_uj(root, "intel-rapl:1", 45.0)

    assert measured(meter, time, count) == pytest.approx(105.0)
    assert int((root / "class/powercap/intel-rapl:0/energy_uj").read_text()) < 60_000_000


def lose(zone: Path) -> None:
    shutil.rmtree(zone)


def garble(zone: Path) -> None:
    write_device(zone, energy_uj="12_000")


def leave(zone: Path) -> None:
    pass


def reset(zone: Path) -> None:
    write_device(zone, energy_uj=5)


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (lose, "intel-rapl:0/energy_uj: is not there"),
        (garble, "intel-rapl:0/energy_uj: '12_000' is no whole number"),
        (leave, "intel-rapl:0: the counter stood still"),
        (reset, "intel-rapl:0: the counter jumped further than it can have counted"),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_counter_that_fails_in_the_middle_makes_the_energy_unknown(
    fault: Callable[[Path], None], reason: str, tmp_path: Path
) -> None:
    root = write_tree("intel_laptop", tmp_path)
    time = SteppedTime()
    meter = rapl_meter(root, use_psys=False, clock=time.clock)
    assert measured(meter, time, lambda: fault(root / "class/powercap/intel-rapl:0")) is None
    assert meter.notes == (reason,)


def test_work_of_a_few_milliseconds_is_too_short_for_a_counter(tmp_path: Path) -> None:
    root = write_tree("intel_laptop", tmp_path)
    time = SteppedTime()
    meter = rapl_meter(root, clock=time.clock)
    assert measured(meter, time, lambda: add_uj(root, "intel-rapl:1", 0.1), took_s=0.019) is None
    assert meter.notes == (f"the work took less than the 0.02 s that {meter.name} needs",)
    assert measured(meter, time, lambda: add_uj(root, "intel-rapl:1", 0.1), took_s=0.021) == pytest.approx(0.1)
    assert not meter.notes


def test_no_processor_counts_where_the_kernel_shows_none(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"no RAPL: .*powercap: No such file or directory"):
        rapl_meter(tmp_path)
    write_device(tmp_path / "class/powercap/intel-rapl", enabled=0)
    with pytest.raises(DeviceError, match=r"no RAPL: .*powercap has no zone of a processor package"):
        rapl_meter(tmp_path)


@pytest.fixture
def nobody() -> Iterator[Path]:
    """An empty folder that all may enter, while the test runs as a user who is not root."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    write_tree("intel_laptop", root)
    for counter in root.glob("class/powercap/*/energy_uj"):
        counter.chmod(0o400 if os.geteuid() == 0 else 0o000)
    before = os.geteuid()
    if before == 0:
        os.seteuid(65_534)
    yield root
    os.seteuid(before)
    shutil.rmtree(root)


def test_counters_that_only_root_reads_are_refused_with_what_mends_it(nobody: Path) -> None:
    counters = nobody / "class/powercap/intel-rapl:*/energy_uj"
    with pytest.raises(DeviceError) as refused:
        rapl_meter(nobody)
    assert str(refused.value) == (
        "RAPL: intel-rapl:0/energy_uj: Permission denied; only root reads it since CVE-2020-8694: "
        f"measure as root, or run `sudo chmod a+r {counters}`"
    )


class CardError(Exception):
    """What NVML's calls raise."""


class Cards:
    """Graphics cards as the module pynvml shows them: mJ since the driver was loaded."""

    def __init__(self, *names: str, energy_mj: int = 7_000_000) -> None:
        self.names = names
        self.energy_mj = dict.fromkeys(range(len(names)), energy_mj)
        self.failure: str | None = None

    def module(self, **replaced: object) -> SimpleNamespace:
        calls: dict[str, object] = {
            "NVMLError": CardError,
            "nvmlInit": lambda: None,
            "nvmlDeviceGetCount": lambda: len(self.names),
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda handle: self.names[handle],
            "nvmlDeviceGetTotalEnergyConsumption": self._total,
        }
        return SimpleNamespace(**{**calls, **replaced})

    def _total(self, handle: int) -> int:
        if self.failure is not None:
            raise CardError(self.failure)
        return self.energy_mj[handle]

    def add(self, handle: int, joules: float) -> None:
        self.energy_mj[handle] += round(1e3 * joules)


def test_a_graphics_card_counts_in_thousandths_of_a_joule(tmp_path: Path) -> None:
    cards, time = Cards("NVIDIA L4"), SteppedTime()
    meter = nvml_meter(tmp_path, load=cards.module, clock=time.clock)
    assert (meter.name, meter.scope, meter.is_modelled) == ("NVML NVIDIA L4", "gpu", False)
    assert measured(meter, time, lambda: cards.add(0, 123.5), took_s=3.0) == pytest.approx(123.5)
    assert measured(meter, time, lambda: cards.add(0, 60.0), took_s=1.9) is None
    assert meter.notes == ("the work took less than the 2 s that NVML NVIDIA L4 needs",)


def test_a_card_is_named_where_there_are_several(tmp_path: Path) -> None:
    cards, time = Cards("NVIDIA L4", "NVIDIA T4"), SteppedTime()
    with pytest.raises(DeviceError, match="NVML finds 2 cards: pass the index of the one that runs the network"):
        nvml_meter(tmp_path, load=cards.module)
    with pytest.raises(DeviceError, match=r"index must lie in \[0, 1\], for NVML finds 2 cards; got 2"):
        nvml_meter(tmp_path, index=2, load=cards.module)
    meter = nvml_meter(tmp_path, index=1, load=cards.module, clock=time.clock)
    assert meter.name == "NVML NVIDIA T4"

    def count() -> None:
        cards.add(0, 500.0)
        cards.add(1, 40.0)

    assert measured(meter, time, count, took_s=3.0) == pytest.approx(40.0)


def raise_card_error() -> None:
    raise CardError("Driver Not Loaded")


def test_a_card_or_driver_that_does_not_count_is_refused(tmp_path: Path) -> None:
    cards = Cards("NVIDIA K80")
    with pytest.raises(DeviceError, match=r"^NVML: Driver Not Loaded$"):
        nvml_meter(tmp_path, load=lambda: cards.module(nvmlInit=raise_card_error))
    with pytest.raises(DeviceError, match=r"^NVML finds no card$"):
        nvml_meter(tmp_path, load=Cards().module)
    cards.failure = "Not Supported"
    with pytest.raises(DeviceError, match=r"^NVML: Not Supported; NVIDIA K80 does not count its energy$"):
        nvml_meter(tmp_path, load=cards.module)


def test_a_card_that_fails_in_the_middle_makes_the_energy_unknown(tmp_path: Path) -> None:
    cards, time = Cards("NVIDIA L4"), SteppedTime()
    meter = nvml_meter(tmp_path, load=cards.module, clock=time.clock)

    def fall_off() -> None:
        cards.failure = "GPU is lost"

    assert measured(meter, time, fall_off, took_s=3.0) is None
    assert meter.notes == ("NVML: GPU is lost",)


def test_a_driver_loaded_anew_makes_the_energy_unknown(tmp_path: Path) -> None:
    cards, time = Cards("NVIDIA L4"), SteppedTime()
    meter = nvml_meter(tmp_path, load=cards.module, clock=time.clock)
    assert measured(meter, time, lambda: cards.energy_mj.update({0: 12}), took_s=3.0) is None
    assert meter.notes == ("NVIDIA L4: the counter ran backwards",)


def test_nvml_is_not_asked_on_a_jetson(tmp_path: Path) -> None:
    """There it starts and finds a GPU, and each reading of energy is `Not Supported`."""
    with pytest.raises(DeviceError, match="NVML knows no energy on a Jetson; its power rails do"):
        nvml_meter(write_tree("orin_nano", tmp_path), load=Cards("Orin (nvgpu)").module)


def test_without_the_module_the_package_is_named(tmp_path: Path) -> None:
    def load() -> None:
        raise ModuleNotFoundError("No module named 'pynvml'")

    with pytest.raises(DeviceError, match=r"NVML needs the module pynvml \(No module.*\): pip install nvidia-ml-py$"):
        nvml_meter(tmp_path, load=load)


def test_a_meter_needs_a_counter() -> None:
    with pytest.raises(ValueError, match="counters must hold at least one, got none"):
        CountedMeter([], name="none", scope="gpu", refresh_s=0.1)
