"""What the pilot observes: each signal from its source, unknown where it is absent, stale or no number."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.deciding import above, below
from tests.device.piloting import START_S, Clock, Strange, board, by_light, by_soc, frame, grey, pilot_on
from tests.device.sysfs_tree import write_device
from tnn_edge.camera import LightMeter
from tnn_edge.camera.pilot import local_day_of_year, local_hour
from tnn_edge.control import (
    SIGNALS,
    ConstantPolicy,
    GovernorSettings,
    Policy,
    Rule,
    RulePolicy,
    ThermalCap,
)
from tnn_edge.device import (
    SimulatedPower,
    SimulatedThermometer,
    SysfsPower,
    SysfsThermometer,
)
from tnn_edge.plant import Exposure, ImageSensor


def test_confidence_is_an_exponential_average_over_irregular_times() -> None:
    """Each answer has the weight of the time since the one before, and forgets by e in each time constant."""
    tau = 4.0
    times = START_S + np.cumsum([0.0, 0.1, 2.5, 0.003, 7.0, 1.0, 1.0, 0.25])
    answers = np.array([0.9, 0.2, 0.7, 0.1, 1.0, 0.0, 0.4, 0.6])
    pilot = pilot_on(by_soc(), confidence_time_constant_s=tau, period_s=1e-6)
    for n, (at_s, answer) in enumerate(zip(times, answers, strict=True)):
        pilot.learn(float(answer), float(at_s))
        since = np.diff(times[: n + 1], prepend=-np.inf)
        weights = (1.0 - np.exp(-since / tau)) * np.exp(-(times[n] - times[: n + 1]) / tau)
        assert weights.sum() == pytest.approx(1.0)
        observed = pilot.choose(frame(float(at_s) + 1e-3 * (n + 1))).observed["confidence"]
        assert observed == pytest.approx(float(weights @ answers[: n + 1]), rel=1e-5)


def test_confidence_grows_stale_and_a_new_answer_starts_afresh() -> None:
    pilot = pilot_on(by_soc(), confidence_time_constant_s=2.0, period_s=0.5)

    def observed(at_s: float) -> float | None:
        return pilot.choose(frame(START_S + at_s)).observed["confidence"]

    assert observed(0.0) is None
    pilot.learn(0.8, START_S)
    assert [observed(t) for t in (1.0, 6.0, 6.5)] == [0.8, 0.8, None]  # three time constants
    pilot.learn(0.3, START_S + 6.9)
    assert observed(7.0) == 0.3


def test_light_is_that_of_the_frame_and_grows_stale() -> None:
    pilot = pilot_on(by_soc(), period_s=2.0)
    seen = grey(120.0)
    expected = LightMeter().lux(frame(0.0, **seen))
    assert expected is not None
    assert abs(math.log2(expected / 120.0)) < 0.5
    first = pilot.choose(frame(START_S, **seen)).observed["lux"]
    blind = [pilot.choose(frame(START_S + t)).observed["lux"] for t in (2.0, 4.0, 6.0, 8.0)]
    assert first == pytest.approx(expected, rel=1e-5)
    assert blind == [first, first, first, None]  # three periods
    unexposed = pilot.choose(frame(START_S + 10.0, **grey(120.0, says_exposure=False)))
    assert unexposed.observed["lux"] is None


def test_a_fixed_exposure_measures_a_source_that_does_not_say_its_own() -> None:
    sensor = ImageSensor()
    seen = grey(300.0, says_exposure=False)
    pilot = pilot_on(by_soc(), light=LightMeter(exposure=sensor.exposure(300.0)))
    lux = pilot.choose(frame(START_S, **seen)).observed["lux"]
    assert lux is not None
    assert abs(math.log2(lux / 300.0)) < 0.5


def test_a_picture_that_cannot_tell_is_told_too() -> None:
    notes: list[str] = []
    pilot = pilot_on(by_light(), on_note=notes.append)
    black, exposure = np.zeros((48, 64, 3), np.uint8), Exposure(seconds=0.01, gain=1.0)
    for i in range(3):
        pilot.choose(frame(START_S + i, image=black, exposure=exposure))
    assert notes == ["lux is unknown: the picture is too dark or too white to tell"]


def test_more_light_than_the_table_of_signals_has_is_the_most_it_has() -> None:
    white = np.full((48, 64, 3), 240, np.uint8)
    exposure = Exposure(seconds=1e-5, gain=1.0)
    estimate = ImageSensor().estimate_lux(white, exposure)
    assert estimate is not None
    assert estimate > SIGNALS["lux"].high
    assert pilot_on(by_light()).choose(frame(START_S, image=white, exposure=exposure)).observed["lux"] == 200_000.0


@pytest.fixture
def india(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A time zone half an hour off."""
    monkeypatch.setenv("TZ", "IST-5:30")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_the_hour_is_that_of_the_local_clock(india: None) -> None:
    assert local_hour(0.0) == 5.5
    assert local_hour(86_400.0 * 20_000 - 3600.0) == 4.5
    assert local_hour(18.4 * 3600.0 + 1.0) == pytest.approx(23.9 + 1 / 3600)


def test_the_day_of_the_year_is_that_of_the_local_clock(india: None) -> None:
    assert local_day_of_year(0.0) == 1.0
    assert local_day_of_year(86_400.0 * 365 - 5.5 * 3600.0 - 1.0) == 365.0
    assert local_day_of_year(86_400.0 * 365 - 5.5 * 3600.0) == 1.0  # already 1971 in India
    assert local_day_of_year(86_400.0 * (2 * 365 + 365)) == 366.0  # 1972 is a leap year


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, 1e20, -1e20])
def test_a_moment_that_no_calendar_has_makes_hour_and_day_unknown(moment: float) -> None:
    assert local_hour(moment) is None
    assert local_day_of_year(moment) is None


def test_the_battery_is_observed_as_the_plant_has_it() -> None:
    clock = Clock()
    device = board(clock, soc=0.9, load_w=2.0)
    pilot = pilot_on(by_soc(), device)
    efficiency = device.battery.discharge_efficiency
    for hours in (0.0, 1.0, 2.0):
        clock.now = START_S + 3600.0 * hours
        observed = pilot.choose(frame(clock.now)).observed
        assert observed["soc"] == pytest.approx(0.9 - 2.0 * hours / efficiency / 10.0, rel=1e-5)
        assert (observed["on_mains"], observed["power_in_w"]) == (0.0, 0.0)
    device.mains_w = 5.0
    charging = pilot.choose(frame(clock.now + 2.0)).observed
    assert charging["on_mains"] == 1.0
    assert charging["power_in_w"] == pytest.approx(5.0)
    assert charging["temperature_c"] == pytest.approx(device.temperature_c, rel=1e-5)
    assert charging["workload"] == 1.0


def garbage(root: Path) -> tuple[SysfsPower, SysfsThermometer]:
    """A battery and a thermal zone whose files hold no numbers."""
    write_device(root / "power_supply" / "BAT0", type="Battery", status="Discharging", capacity="\x00\x07%", present=1)
    write_device(root / "thermal" / "thermal_zone0", type="cpu-thermal", temp="4_500")
    return SysfsPower(root / "power_supply"), SysfsThermometer(root)


def test_garbage_in_a_sensor_gives_the_declared_answer_and_its_reason(tmp_path: Path) -> None:
    power, thermometer = garbage(tmp_path)
    pilot = pilot_on(by_soc(), power=power, thermometer=thermometer)
    choice = pilot.choose(frame(START_S))
    assert (choice.u, choice.reason) == (0.25, "unknown_soc")
    assert (choice.observed["soc"], choice.observed["temperature_c"]) == (None, None)
    (tmp_path / "power_supply" / "BAT0" / "capacity").write_text("80\n")
    (tmp_path / "thermal" / "thermal_zone0" / "temp").write_text("45000\n")
    repaired = pilot.choose(frame(START_S + 1.0))
    assert (repaired.u, repaired.reason) == (0.6, "normal")
    assert (repaired.observed["soc"], repaired.observed["temperature_c"]) == (0.8, 45.0)


def test_a_temperature_that_is_unknown_caps_as_heat_does(tmp_path: Path) -> None:
    _, thermometer = garbage(tmp_path)
    cap = GovernorSettings(unknown_u=0.25, thermal=ThermalCap(above_c=80.0, until_c=70.0, u=0.15))
    choice = pilot_on(by_soc(), settings=cap, thermometer=thermometer).choose(frame(START_S))
    assert (choice.u, choice.reason) == (0.15, "governor_thermal")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_a_number_that_cannot_be_is_unknown(value: float) -> None:
    pilot = pilot_on(by_soc(), thermometer=Strange(value), hour_of=lambda at: value, day_of=lambda at: value)
    choice = pilot.choose(frame(START_S))
    assert [choice.observed[name] for name in ("temperature_c", "hour", "day_of_year")] == [None, None, None]
    assert (choice.u, choice.reason) == (0.6, "normal")


def test_a_machine_without_a_battery_runs_at_the_declared_u_and_is_told_so_once(tmp_path: Path) -> None:
    notes: list[str] = []
    pilot = pilot_on(by_soc(), power=SysfsPower(tmp_path), on_note=notes.append)
    choices = [pilot.choose(frame(START_S + i)) for i in range(5)]
    assert {(c.u, c.reason) for c in choices} == {(0.25, "unknown_soc")}
    assert choices[-1].decision == 4
    assert notes == ["soc is unknown: no battery is reported"]


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        (ConstantPolicy(u=0.5), []),
        (by_soc(), ["soc is unknown: gone"]),
        (
            RulePolicy(
                [
                    Rule(name="hot", when=(above("temperature_c", 70),), u=0.1),
                    Rule(name="dim", when=(below("lux", 20),), u=0.3),
                    Rule(name="normal", when=(), u=0.6),
                ]
            ),
            [
                "temperature_c is unknown: cold joint",
                "lux is unknown: the source does not say how its frames are exposed; [light] may",
            ],
        ),
    ],
    ids=["reads nothing", "reads the charge", "reads heat and light"],
)
def test_notes_are_told_once_and_of_what_the_policy_reads(policy: Policy[Any], told: list[str]) -> None:
    device = board(lambda: START_S)
    power, thermometer = SimulatedPower(device), SimulatedThermometer(device)
    power.fail("gone")
    thermometer.fail("cold joint")
    notes: list[str] = []
    pilot = pilot_on(policy, power=power, thermometer=thermometer, on_note=notes.append)
    for i in range(4):
        pilot.choose(frame(START_S + i, **grey(says_exposure=False)))
    assert notes == told


def test_another_reason_is_told_too() -> None:
    power = SimulatedPower(board(lambda: START_S))
    notes: list[str] = []
    pilot = pilot_on(by_soc(), power=power, on_note=notes.append)
    for i, failure in enumerate(["unplugged", "unplugged", None, "worn out", "unplugged"]):
        power.recover() if failure is None else power.fail(failure)
        pilot.choose(frame(START_S + i))
    assert notes == ["soc is unknown: unplugged", "soc is unknown: worn out"]
