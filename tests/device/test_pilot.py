"""The policy at the dial: when it decides, on what, and that it decides as it would anywhere else."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.device.deciding import above, below
from tests.device.sysfs_tree import write_device
from tnn_edge.camera import Choice, Frame, LightMeter, Pilot
from tnn_edge.camera.pilot import local_hour
from tnn_edge.control import (
    SIGNALS,
    ConstantPolicy,
    Governed,
    GovernorSettings,
    IsUnknown,
    Limit,
    Observation,
    Policy,
    Ramp,
    Rule,
    RulePolicy,
    ThermalCap,
)
from tnn_edge.device import (
    PowerReading,
    PowerSource,
    SimulatedDevice,
    SimulatedPower,
    SimulatedThermometer,
    SysfsPower,
    SysfsThermometer,
    Thermometer,
)
from tnn_edge.plant import Battery, Exposure, ImageSensor

START_S = 1000.0
YEAR_S = 365.25 * 86_400.0


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = START_S

    def __call__(self) -> float:
        return self.now


def grey(lux: float = 500.0, *, says_exposure: bool = True) -> dict[str, Any]:
    """The picture of a grey card under auto-exposure, as fields of a frame."""
    sensor = ImageSensor()
    card = np.full((8, 8, 3), round(255 * (1.055 * 0.18 ** (1 / 2.4) - 0.055)), np.uint8)  # 18 % in sRGB
    image = sensor.capture(card, lux, np.random.default_rng(0))
    return {"image": image, "exposure": sensor.exposure(lux) if says_exposure else None}


def frame(at_s: float, *, captured_at: float = 0.0, **picture: Any) -> Frame:
    picture = picture or {"error": "nothing to see"}
    return Frame(index=0, name="test", captured_at=captured_at, captured_s=at_s, **picture)


def board(clock: Callable[[], float], *, soc: float = 0.5, load_w: float = 0.0) -> SimulatedDevice:
    return SimulatedDevice(battery=Battery(usable_wh=10.0), soc=soc, load_w=load_w, clock=clock)


def pilot_on(
    policy: Policy[Any],
    device: SimulatedDevice | None = None,
    *,
    settings: GovernorSettings | None = None,
    power: PowerSource | None = None,
    thermometer: Thermometer | None = None,
    light: LightMeter | None = None,
    **options: Any,
) -> Pilot:
    device = board(lambda: START_S) if device is None else device
    return Pilot(
        Governed(policy, GovernorSettings(unknown_u=0.25) if settings is None else settings),
        power=SimulatedPower(device) if power is None else power,
        thermometer=SimulatedThermometer(device) if thermometer is None else thermometer,
        light=LightMeter() if light is None else light,
        **options,
    )


def by_light() -> RulePolicy:
    return RulePolicy([Rule(name="dim", when=(below("lux", 20),), u=0.3), Rule(name="normal", when=(), u=0.6)])


def by_soc() -> RulePolicy:
    return RulePolicy([Rule(name="low", when=(below("soc", 0.3),), u=0.1), Rule(name="normal", when=(), u=0.6)])


@pytest.mark.parametrize(("fps", "period_s"), [(256, 1.0), (32, 0.75), (8, 0.7), (8, 1.0), (0.5, 1.0)])
def test_decisions_come_at_their_own_rate_whatever_the_frame_rate(fps: float, period_s: float) -> None:
    pilot = pilot_on(ConstantPolicy(u=0.5), period_s=period_s)
    n_frames_a_decision = max(1, math.ceil(period_s * fps))
    numbers = [pilot.choose(frame(START_S + i / fps)).decision for i in range(12 * n_frames_a_decision)]
    assert numbers == [i // n_frames_a_decision for i in range(12 * n_frames_a_decision)]


def test_u_stands_still_between_two_decisions() -> None:
    clock = Clock()
    device = board(clock, soc=0.5)
    pilot = pilot_on(by_soc(), device, period_s=2.0)
    first = pilot.choose(frame(START_S))
    device.load_w = 10.0
    clock.now += 3600.0 * 0.4  # 4 Wh of 10
    between = [pilot.choose(frame(START_S + i / 4)) for i in range(8)]
    assert {(c.u, c.decision, c.reason, c.observed["soc"]) for c in between} == {
        (0.6, 0, "normal", first.observed["soc"])
    }
    after = pilot.choose(frame(START_S + 2.0))
    assert (after.u, after.decision, after.reason) == (0.1, 1, "low")


def many_signals() -> Governed[Any]:
    """Hysteresis, dwell and slew, so that an answer hangs on all answers before it."""
    rules = [
        Rule(name="reserve", when=(below("soc", 0.3, until=0.5),), u=0.0),
        Rule(name="first", when=(IsUnknown(signal="confidence"),), u=0.5),
        Rule(name="dim", when=(below("lux", 20, until=60),), u=0.3),
        Rule(name="doubt", when=(below("confidence", 0.4, until=0.6),), u=1.0),
        Rule(name="normal", when=(), u=Ramp("soc", ((0.2, 0.1), (0.9, 0.9)))),
    ]
    limits = [Limit(name="inert", when=(above("last_u", 0.85, until=0.5),), ceiling=0.7)]
    settings = GovernorSettings(unknown_u=0.2, max_slew_per_s=0.15)
    return Governed(RulePolicy(rules, limits, min_dwell_s=7.0), settings)


def test_the_policy_on_a_camera_decides_as_it_does_by_hand() -> None:
    """A battery that empties and fills, light that swings, a network in doubt, frames at odd times, gaps."""
    clock = Clock()
    device = board(clock, soc=0.7)
    pilot = Pilot(
        many_signals(),
        power=SimulatedPower(device),
        thermometer=SimulatedThermometer(device),
        light=LightMeter(),
        period_s=1.0,
        confidence_time_constant_s=3.0,
    )
    rng = np.random.default_rng(3)
    decided: list[tuple[float, Choice]] = []
    for i in range(900):
        clock.now += float(rng.exponential(0.4)) + (5.0 if i % 97 == 0 else 0.0)
        device.load_w, device.mains_w = (300.0, 0.0) if math.sin(clock.now / 60) > 0 else (0.0, 300.0)
        seen = grey(40 * 4 ** math.sin(clock.now / 23)) if i % 10 else {}
        choice = pilot.choose(frame(clock.now, **seen))
        if not decided or choice is not decided[-1][1]:
            decided.append((clock.now, choice))
        if seen:
            pilot.learn(0.5 + 0.4 * math.sin(clock.now / 11), clock.now)

    policy = many_signals()
    state, again, alone = policy.initial_state(1), [], []
    for time_s, choice in decided:
        observation = Observation.of(time_s=time_s, n=1, **dict[str, Any](choice.observed))
        decision, state = policy.decide(observation, state)
        again.append((float(decision.u[0]), policy.reasons[decision.reason[0]]))
        alone.append(float(policy.decide(observation, policy.initial_state(1))[0].u[0]))
    assert again == [(choice.u, choice.reason) for _, choice in decided]
    observed = [value for _, choice in decided for value in choice.observed.values() if value is not None]
    assert observed == [float(f"{value:.6g}") for value in observed]  # short enough for a line, and yet all of it
    assert [choice.decision for _, choice in decided] == list(range(len(decided)))
    # The run saw what makes it hard: every rule, the limit and the slew; and it does hang on the past.
    assert {reason for _, reason in again} >= {"reserve", "dim", "first", "doubt", "normal", "inert", "governor_slew"}
    assert [u for u, _ in again] != alone


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


def test_the_last_throttle_is_observed_from_the_second_decision_on() -> None:
    pilot = pilot_on(ConstantPolicy(u=0.7))
    assert [pilot.choose(frame(START_S + i)).observed["last_u"] for i in range(3)] == [None, 0.7, 0.7]


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


@pytest.mark.parametrize("jump_s", [-YEAR_S, YEAR_S])
def test_a_wall_clock_that_jumps_changes_the_hour_alone(jump_s: float) -> None:
    def run(jump_s: float) -> list[Choice]:
        clock = Clock()
        device = board(clock, soc=0.6, load_w=8.0)
        pilot = Pilot(
            many_signals(),
            power=SimulatedPower(device),
            thermometer=SimulatedThermometer(device),
            light=LightMeter(),
            hour_of=lambda at: at % 86_400 / 3600,
        )
        choices = []
        for i in range(60):
            clock.now += 0.7
            wall = 1.75e9 + clock.now + (jump_s if i >= 30 else 0.0)
            choices.append(pilot.choose(frame(clock.now, captured_at=wall, **grey(30.0 + i))))
            pilot.learn(0.3 + i / 100, clock.now)
        return choices

    steady, jumping = run(0.0), run(jump_s)
    assert [(c.u, c.decision, c.reason) for c in jumping] == [(c.u, c.decision, c.reason) for c in steady]
    assert [{**c.observed, "hour": None} for c in jumping] == [{**c.observed, "hour": None} for c in steady]
    shifts = [(j.observed["hour"] or 0) - (s.observed["hour"] or 0) for s, j in zip(steady, jumping, strict=True)]
    assert shifts[:30] == [0.0] * 30
    assert [shift % 24 for shift in shifts[30:]] == pytest.approx([jump_s / 3600 % 24] * 30, abs=1e-3)


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


@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, 1e20, -1e20])
def test_a_moment_that_no_calendar_has_makes_the_hour_unknown(moment: float) -> None:
    assert local_hour(moment) is None


def test_frames_that_go_back_in_time_are_decided_on_at_once_and_do_not_freeze_the_dial() -> None:
    pilot = pilot_on(by_soc(), settings=GovernorSettings(unknown_u=0.25, max_slew_per_s=0.01))
    pilot.choose(frame(START_S, **grey(100.0)))
    pilot.learn(0.7, START_S)
    back = pilot.choose(frame(START_S - 500.0))
    assert back.decision == 1
    assert back.u == 0.6
    # What was measured in what is now the future is as unknown as what is long ago.
    assert (back.observed["lux"], back.observed["confidence"]) == (None, None)
    numbers = [pilot.choose(frame(START_S - 500.0 + t)).decision for t in (0.5, 1.0, 1.5, 2.0)]
    assert numbers == [1, 2, 2, 3]
    pilot.learn(0.4, START_S - 498.0)
    assert pilot.choose(frame(START_S - 497.0)).observed["confidence"] == 0.4


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


class Strange:
    """A sensor that breaks its word: numbers that are none, and what no board has."""

    notes = ("strange",)

    def __init__(self, value: float) -> None:
        self.value = value

    def read(self) -> float:
        return self.value


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e308])
def test_a_number_that_cannot_be_is_unknown(value: float) -> None:
    pilot = pilot_on(by_soc(), thermometer=Strange(value), hour_of=lambda at: value)
    choice = pilot.choose(frame(START_S))
    assert (choice.observed["temperature_c"], choice.observed["hour"]) == (None, None)
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


class Erratic:
    """Power of which each reading is another."""

    def __init__(self, readings: Sequence[float | None]) -> None:
        self._readings = iter(readings)

    def read(self) -> PowerReading:
        soc = next(self._readings, None)
        none = PowerReading.unknown("erratic")
        return none if soc is None else PowerReading(**{**vars(none), "soc": soc, "on_mains": soc > 0.5})


moments = st.floats(-1e12, 1e12) | st.sampled_from([math.inf, math.nan])
steps = st.tuples(
    st.floats(-20.0, 40.0), moments, st.none() | st.floats(0.0, 1.0), st.none() | st.integers(0, 255), st.booleans()
)


@given(
    steps=st.lists(steps, max_size=40),
    socs=st.lists(st.none() | st.floats(0.0, 1.0), max_size=40),
    temperature=st.floats() | st.just(20.0),
)
def test_whatever_comes_u_is_a_throttle_and_a_decision_has_one_u(
    steps: list[tuple[float, float, float | None, int | None, bool]], socs: list[float | None], temperature: float
) -> None:
    policy = many_signals()
    pilot = Pilot(policy, power=Erratic(socs), thermometer=Strange(temperature), light=LightMeter())
    at_s = START_S
    made: dict[int | None, Choice] = {}
    for elapsed_s, captured_at, confidence, level, says_exposure in steps:
        at_s += elapsed_s
        picture = {} if level is None else {"image": np.full((4, 4, 3), level, np.uint8)}
        exposure = {"exposure": Exposure(seconds=0.01, gain=1.0)} if says_exposure and picture else {}
        choice = pilot.choose(frame(at_s, captured_at=captured_at, **picture, **exposure))
        assert 0.0 <= choice.u <= 1.0
        assert made.setdefault(choice.decision, choice) is choice
        assert choice.reason in policy.reasons
        assert all(value is None or math.isfinite(value) for value in choice.observed.values())
        if confidence is not None:
            pilot.learn(confidence, at_s)
    assert sorted(made, key=lambda number: number or 0) == list(range(len(made)))


@pytest.mark.parametrize("name", ["period_s", "confidence_time_constant_s"])
@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_time_that_is_none_is_refused(name: str, value: float) -> None:
    times: dict[str, Any] = {name: value}
    with pytest.raises(ValueError, match=rf"{name} must be a finite number above 0, got {value:g}"):
        pilot_on(by_soc(), **times)


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
