"""Energy from readings of power, against integrals worked out by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.stepped_time import SteppedTime
from tnn_edge.device.power import Unknown
from tnn_edge.device.power_samples import PowerSample, Sampling, energy_between
from tnn_edge.device.sampled_energy import SampledMeter

WATTS = st.floats(0.1, 100.0)


def meter_of(time: SteppedTime, read_w: Callable[[], float | Unknown], period_s: float = 0.1) -> SampledMeter:
    return SampledMeter(
        read_w, name="rail", scope="module", period_s=period_s, clock=time.clock, new_stop=time.new_stop
    )


@given(
    times_s=st.lists(st.floats(0.0, 100.0), min_size=2, max_size=30, unique=True).map(sorted),
    shares=st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0)).map(sorted),
    start_w=WATTS,
    slope=st.floats(-5.0, 5.0),
)
def test_linear_power_is_integrated_exactly(
    times_s: list[float], shares: list[float], start_w: float, slope: float
) -> None:
    samples = [PowerSample(t, start_w + slope * t) for t in times_s]
    first, last = times_s[0], times_s[-1]
    start_s, end_s = (min(first + share * (last - first), last) for share in shares)
    exact = start_w * (end_s - start_s) + slope * (end_s**2 - start_s**2) / 2
    assert energy_between(samples, start_s, end_s) == pytest.approx(exact, rel=1e-9, abs=1e-9)


@given(
    powers_w=st.lists(WATTS, min_size=3, max_size=20),
    shares=st.lists(st.floats(0.0, 1.0), min_size=3, max_size=3).map(sorted),
)
def test_the_energy_of_a_time_is_that_of_its_parts(powers_w: list[float], shares: list[float]) -> None:
    samples = [PowerSample(float(i), power_w) for i, power_w in enumerate(powers_w)]
    a, b, c = (share * (len(powers_w) - 1) for share in shares)
    parts = energy_between(samples, a, b) + energy_between(samples, b, c)
    assert energy_between(samples, a, c) == pytest.approx(parts, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("start_s", "end_s"), [(-0.1, 0.5), (0.5, 1.1), (0.6, 0.5)])
def test_energy_outside_the_samples_is_an_error(start_s: float, end_s: float) -> None:
    samples = [PowerSample(0.0, 1.0), PowerSample(1.0, 1.0)]
    with pytest.raises(ValueError, match=r"samples must reach from start_s to end_s"):
        energy_between(samples, start_s, end_s)


@given(start_w=WATTS, slope=st.floats(0.0, 5.0), took_s=st.floats(2.0, 9.0))
def test_a_meter_integrates_what_its_sensor_says_while_the_work_runs(
    start_w: float, slope: float, took_s: float
) -> None:
    time = SteppedTime()
    meter = meter_of(time, lambda: start_w + slope * time.now_s)
    energy_j = meter.measure(lambda: time.advance(took_s))
    assert energy_j == pytest.approx(start_w * took_s + slope * took_s**2 / 2)
    assert meter.notes == ()


def test_power_before_and_after_the_work_is_not_in_it() -> None:
    """10 W for the first half, 2 W for the second; the step falls between two readings 0.1 s apart."""
    time = SteppedTime()
    time.advance(50.0)
    meter = meter_of(time, lambda: 10.0 if time.now_s < 55.05 else 2.0)
    assert meter.measure(lambda: time.advance(10.0)) == pytest.approx(10 * 5.05 + 2 * 4.95)


def test_work_shorter_than_twenty_readings_is_not_measured() -> None:
    time = SteppedTime()
    meter = meter_of(time, lambda: 5.0)
    assert meter.least_s == pytest.approx(2.0)
    assert meter.measure(lambda: time.advance(1.9)) is None
    assert meter.notes == ("the work took less than the 2 s that rail needs",)
    assert meter.measure(lambda: time.advance(2.1)) == pytest.approx(5 * 2.1)
    assert not meter.notes


def test_a_sensor_that_renews_slowly_is_read_as_slowly() -> None:
    meter = SampledMeter(lambda: 1.0, name="rail", scope="module", period_s=0.01, refresh_s=0.4)
    assert (meter.period_s, meter.least_s) == (0.4, 8.0)


@pytest.mark.parametrize(("dark_s", "is_known"), [(2.0, True), (2.6, False)])
def test_a_quarter_of_the_work_without_a_reading_is_too_much(dark_s: float, is_known: bool) -> None:
    """Of 10 s at 3 W; readings lie up to 0.2 s further apart than the time without."""
    time = SteppedTime()
    gone = Unknown("hwmon1/in1_input: Resource temporarily unavailable")
    meter = meter_of(time, lambda: gone if 4.0 < time.now_s < 4.0 + dark_s else 3.0)
    energy_j = meter.measure(lambda: time.advance(10.0))
    assert energy_j == (pytest.approx(30.0) if is_known else None)
    assert gone.reason in meter.notes
    assert ("a quarter of the work or more passed without a reading of rail" in meter.notes) is not is_known


@pytest.mark.parametrize("is_dark", [lambda t: t == 0.0, lambda t: t >= 9.95], ids=["before", "after"])
def test_a_sensor_must_answer_before_and_after_the_work(is_dark: Callable[[float], bool]) -> None:
    time = SteppedTime()
    meter = meter_of(time, lambda: Unknown("gone") if is_dark(time.now_s) else 3.0)
    assert meter.measure(lambda: time.advance(10.0)) is None
    assert meter.notes == ("rail did not answer before or after the work", "gone")


def test_a_reading_bears_the_time_halfway_through_it() -> None:
    """Power rises by 1 W/s, each reading takes 0.2 s and says what held at its middle."""
    time = SteppedTime()

    def read_w() -> float:
        time.now_s += 0.1
        power_w = time.now_s
        time.now_s += 0.1
        return power_w

    sampling = Sampling(read_w, time.clock)
    sampling.take()
    sampling.take()
    assert [sample.at_s for sample in sampling.samples] == pytest.approx([0.1, 0.3])
    assert [sample.power_w for sample in sampling.samples] == pytest.approx([0.1, 0.3])


def test_the_thread_reads_in_real_time_and_ends_with_the_work() -> None:
    fifty = threading.Event()
    n_readings = 0

    def read_w() -> float:
        nonlocal n_readings
        n_readings += 1
        if n_readings == 50:
            fifty.set()
        return 1.0

    clock_s = iter(range(10_000))
    sampling = Sampling(read_w, lambda: float(next(clock_s)))
    start_s, end_s = sampling.during(lambda: fifty.wait(10.0), period_s=1e-4, stop=threading.Event())
    times_s = [sample.at_s for sample in sampling.samples]
    assert len(times_s) == n_readings > 50
    assert times_s[0] < start_s < end_s < times_s[-1]
    assert not [thread for thread in threading.enumerate() if thread.name == "power"]


def test_the_thread_ends_though_the_work_fails() -> None:
    time = SteppedTime()
    with pytest.raises(ZeroDivisionError):
        meter_of(time, lambda: 1.0).measure(lambda: 1 // 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "power"]


@pytest.mark.parametrize("period_s", [0.0, -1.0, float("nan")])
def test_a_period_must_be_above_zero(period_s: float) -> None:
    with pytest.raises(ValueError, match=r"period_s must be above 0, got"):
        SampledMeter(lambda: 1.0, name="rail", scope="module", period_s=period_s)
