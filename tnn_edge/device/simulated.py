"""A device on the plant: battery, panel and temperature that a program may run on in place of the real ones."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from tnn_edge.device.power import PowerReading
from tnn_edge.plant import Battery, BatteryState, BatteryStep, Panel, ThermalNode

__all__ = ["SimulatedDevice", "SimulatedPower", "SimulatedThermometer"]

_MOST_STEPS = 2000  # of one reading; after a longer gap the steps grow, so that no clock can stop the program


class SimulatedDevice:
    """A board with a battery under a panel, modelled, that lives as far as its clock has come.

    Nothing happens between two looks at it: a look takes the plant through the time that has passed, in steps of at
    most `step_s`, each under the sun and the air of its middle. A clock that stands still or runs backwards adds no
    time.

    Args:
        battery: what it runs on, as warm as the air.
        soc: state of charge at the start, in [0, 1].
        panel: what charges it.
        irradiance_w_m2: sun on the panel, a function of the seconds since the start.
        air_c: temperature of the air, likewise; the board begins with it.
        thermal: how the board warms.
        load_w: power the board draws while it is on; set it as the work changes.
        mains_w: power of a plugged-in charger, 0 for none; set it to plug and unplug.
        step_s: longest step of the plant.
        on_step: told of each step of the plant: its seconds, and where the energy went in it.
        clock: seconds that never run backwards; a faster clock makes a faster day.
    """

    def __init__(
        self,
        *,
        battery: Battery,
        soc: float,
        panel: Panel | None = None,
        irradiance_w_m2: Callable[[float], float] = lambda seconds: 0.0,
        air_c: Callable[[float], float] = lambda seconds: 25.0,
        thermal: ThermalNode | None = None,
        load_w: float = 0.0,
        mains_w: float = 0.0,
        step_s: float = 60.0,
        on_step: Callable[[float, BatteryStep], None] = lambda seconds, flow: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not step_s > 0.0:
            raise ValueError(f"step_s must be above 0, got {step_s:g}")
        self.battery = battery
        self.panel = Panel(rated_w=0.0) if panel is None else panel
        self.irradiance_w_m2 = irradiance_w_m2
        self.air_c = air_c
        self.thermal = ThermalNode() if thermal is None else thermal
        self.step_s = step_s
        self._load_w = _power("load_w", load_w)
        self._mains_w = _power("mains_w", mains_w)
        self._state = battery.state(soc)
        self._temperature_c = air_c(0.0)
        self._seconds = 0.0
        self._on_step = on_step
        self._clock = clock
        self._start = clock()

    @property
    def load_w(self) -> float:
        """Power the board draws while it is on."""
        return self._load_w

    @load_w.setter
    def load_w(self, value: float) -> None:
        self.advance()
        self._load_w = _power("load_w", value)

    @property
    def mains_w(self) -> float:
        """Power of the plugged-in charger, 0 where there is none."""
        return self._mains_w

    @mains_w.setter
    def mains_w(self, value: float) -> None:
        self.advance()
        self._mains_w = _power("mains_w", value)

    @property
    def is_on(self) -> bool:
        """Whether the board has power; without it a real program would not run."""
        self.advance()
        return bool(self._state.is_on[0])

    @property
    def soc(self) -> float:
        """State of charge, in [0, 1]."""
        self.advance()
        return float(self.battery.soc(self._state)[0])

    @property
    def temperature_c(self) -> float:
        """Temperature of the board."""
        self.advance()
        return self._temperature_c

    def advance(self) -> None:
        """Take the plant to the clock's time."""
        gap = self._clock() - self._start - self._seconds
        if not 0.0 < gap < math.inf:
            return
        n_steps = min(math.ceil(gap / self.step_s), _MOST_STEPS)
        for _ in range(n_steps):
            self._step(gap / n_steps)

    def flows(self) -> BatteryStep:
        """Where energy would go in the next second, in Wh, from the plant as it stands."""
        self.advance()
        return self._flow(1.0)[1]

    def _step(self, seconds: float) -> None:
        self._state, flow = self._flow(seconds)
        middle = self._seconds + seconds / 2
        power_w = float(flow.load_wh[0]) * 3600.0 / seconds
        after = self.thermal.step(self._temperature_c, power_w=power_w, air_c=self.air_c(middle), seconds=seconds)
        self._temperature_c = float(after)
        self._seconds += seconds
        self._on_step(seconds, flow)

    def _flow(self, seconds: float) -> tuple[BatteryState, BatteryStep]:
        middle = self._seconds + seconds / 2
        air_c = self.air_c(middle)
        panel_w = float(self.panel.power_w(self.irradiance_w_m2(middle), air_c)) + self._mains_w
        return self.battery.step(
            self._state, panel_w=panel_w, load_w=self._load_w, seconds=seconds, temperature_c=air_c
        )


class _Sensor:
    """A sensor of a simulated device that can fall silent, as real ones do; the device itself goes on."""

    def __init__(self, device: SimulatedDevice) -> None:
        self.device = device
        self._failure: str | None = None

    def fail(self, reason: str) -> None:
        """Know nothing from now on."""
        self._failure = reason

    def recover(self) -> None:
        """Work again."""
        self._failure = None


class SimulatedPower(_Sensor):
    """The power source of a simulated device. Powers are those of the next second; power in is what is taken of it."""

    def read(self) -> PowerReading:
        """The state of now; never raises."""
        if self._failure is not None:
            return PowerReading.unknown(self._failure)
        device = self.device
        flows = device.flows()
        in_w = 3600.0 * float(flows.panel_wh[0] - flows.spilled_wh[0])
        soc = device.soc
        return PowerReading(
            soc=soc,
            on_mains=device.mains_w > 0.0,
            power_in_w=max(in_w, 0.0),  # a difference of equal numbers may be -1e-18
            battery_w=in_w - 3600.0 * float(flows.load_wh[0]),
            charge_wh=soc * device.battery.usable_wh,
            full_wh=device.battery.usable_wh,
        )


class SimulatedThermometer(_Sensor):
    """The thermometer of a simulated device."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Why it is silent, where it is."""
        return () if self._failure is None else (self._failure,)

    def read(self) -> float | None:
        """Temperature in degrees C; never raises."""
        return None if self._failure is not None else self.device.temperature_c


def _power(name: str, value: float) -> float:
    if not value >= 0.0:
        raise ValueError(f"{name} must not be negative, got {value:g}")
    return value
