"""What tests of the pilot build: a clock, a board, frames, a pilot on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.device.deciding import below
from tnn_edge.camera import Frame, LightMeter, Pilot
from tnn_edge.control import (
    Governed,
    GovernorSettings,
    Policy,
    Rule,
    RulePolicy,
)
from tnn_edge.device import (
    PowerSource,
    SimulatedDevice,
    SimulatedPower,
    SimulatedThermometer,
    Thermometer,
)
from tnn_edge.plant import Battery, ImageSensor

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


class Strange:
    """A sensor that breaks its word: numbers that are none, and what no board has."""

    notes = ("strange",)

    def __init__(self, value: float) -> None:
        self.value = value

    def read(self) -> float:
        return self.value
