"""One policy's run on the modelled device: it decides on what the sensors say, the plant and the network answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.camera.pilot import Pilot
from tnn_edge.day.scenario_tables import SECONDS_PER_DAY
from tnn_edge.device import SimulatedDevice, SimulatedPower, SimulatedThermometer

if TYPE_CHECKING:
    from tnn_edge.control import Governed
    from tnn_edge.day.answers import Answers
    from tnn_edge.day.scenario import Scenario
    from tnn_edge.day.scenes import Scenes
    from tnn_edge.plant import BatteryStep

__all__ = ["Life", "live_through"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Life:
    """What a run left, period by period; arrays of shape [n_periods], filled up to `n_done`.

    Attributes:
        start_soc: state of charge at the start.
        u: throttle; NaN while dark, which is where the board has no power when the period begins.
        reason: reason code of the decision, None while dark.
        observed_lux: illuminance as the policy knew it, NaN where it did not.
        on_share: part of the period in which the board had power.
        right_share: share of the period's images that were classified right at u, 0 while dark.
        ms: mean time in the engine for one image, NaN while dark.
        soc: state of charge at the end of the period.
        load_wh: energy that the board drew; modelled, as are all energies.
        compute_wh: part of it that computing took.
        panel_wh: energy that the panel could give.
        spilled_wh: part of it that nobody took.
        lost_wh: energy turned into heat by the battery.
        is_brown_out: whether the board lost power in the period.
    """

    start_soc: float
    u: Floats
    reason: list[str | None]
    observed_lux: Floats
    on_share: Floats
    right_share: Floats
    ms: Floats
    soc: Floats
    load_wh: Floats
    compute_wh: Floats
    panel_wh: Floats
    spilled_wh: Floats
    lost_wh: Floats
    is_brown_out: npt.NDArray[np.bool_]

    @classmethod
    def before(cls, n_periods: int, start_soc: float) -> Life:
        """A run of which nothing has happened yet."""
        names = "u observed_lux on_share right_share ms soc load_wh compute_wh panel_wh spilled_wh lost_wh".split()
        arrays: dict[str, Any] = {name: np.full(n_periods, np.nan) for name in names}
        return cls(start_soc=start_soc, reason=[], is_brown_out=np.zeros(n_periods, np.bool_), **arrays)

    @property
    def n_done(self) -> int:
        """Periods that have passed."""
        return len(self.reason)


def live_through(
    policy: Governed[Any],
    scenario: Scenario,
    scenes: Scenes,
    answers: Answers,
    *,
    on_period: Callable[[Life], None] = lambda life: None,
) -> Life:
    """Run a policy through the scenario.

    A policy decides once in a period, on the light of the period's first picture; each answer's confidence is fed
    back. A board that lost power begins anew when it has it again: nothing is remembered, as after a reboot.

    Args:
        policy: under its governor.
        scenario: device and time.
        scenes: weather and pictures.
        answers: of the network to these pictures.
        on_period: called after each period.
    """
    plant = _Plant(scenario, scenes)
    device = plant.device
    life = Life.before(scenario.n_periods, scenario.start_soc)
    pilot: Pilot | None = None
    for i in range(scenario.n_periods):
        if device.is_on:
            pilot = pilot or _pilot(policy, scenario, device)
            choice = pilot.choose(scenes.first_frame(i))
            point = answers.point(choice.u)
            device.load_w = float(scenario.board.power_w(answers.macs_share[point]))
            lux = choice.observed["lux"]
            life.u[i], life.observed_lux[i] = choice.u, np.nan if lux is None else lux
            life.reason.append(choice.reason)
            _hear(pilot, life, answers, i, point, scenario)
            compute_w = scenario.board.compute_w * answers.macs_share[point]
        else:
            answers.of(i)  # other policies may be awake
            life.right_share[i] = compute_w = 0.0
            life.reason.append(None)
        plant.pass_period(life, i, compute_w)
        if life.is_brown_out[i]:
            pilot = None
        on_period(life)
    return life


def _pilot(policy: Governed[Any], scenario: Scenario, device: SimulatedDevice) -> Pilot:
    first_day = scenario.weather.site.day_of_year
    return Pilot(
        policy,
        power=SimulatedPower(device),
        thermometer=SimulatedThermometer(device),
        light=LightMeter(sensor=scenario.sensor, reflectance=scenario.reflectance),
        period_s=scenario.period_s * (1.0 - 1e-9),  # the next period's first frame is due, however its time is rounded
        confidence_time_constant_s=scenario.period_s,
        hour_of=lambda captured_at: captured_at / 3600.0 % 24.0,
        day_of=lambda captured_at: (first_day - 1 + captured_at // SECONDS_PER_DAY) % 366 + 1,
    )


def _hear(pilot: Pilot, life: Life, answers: Answers, i: int, point: int, scenario: Scenario) -> None:
    """Let the network answer a period's pictures, and the policy hear how sure it was."""
    answered = answers.of(i)
    life.right_share[i] = answered.is_right[:, point].mean()
    life.ms[i] = answered.ms[:, point].mean()
    for j, confidence in enumerate(answered.confidence[:, point]):
        pilot.learn(float(confidence), (i + j / scenario.images_per_period) * scenario.period_s)


class _Plant:
    """The modelled device on a clock that moves period by period, and where its energy goes."""

    def __init__(self, scenario: Scenario, scenes: Scenes) -> None:
        def at(values: Floats) -> Callable[[float], float]:
            return lambda seconds: float(values[min(int(seconds / scenario.period_s), len(values) - 1)])

        self._period_s = scenario.period_s
        self._now_s = 0.0
        self._steps: list[tuple[float, BatteryStep]] = []
        self.device = SimulatedDevice(
            battery=scenario.battery,
            soc=scenario.start_soc,
            panel=scenario.panel,
            irradiance_w_m2=at(scenes.irradiance_w_m2),
            air_c=at(scenes.air_c),
            thermal=scenario.thermal,
            step_s=scenario.period_s,
            on_step=lambda seconds, flow: self._steps.append((seconds, flow)),
            clock=lambda: self._now_s,
        )

    def pass_period(self, life: Life, i: int, compute_w: float) -> None:
        """Let the time of a period pass, and note where the energy went."""
        self._steps.clear()
        self._now_s = (i + 1) * self._period_s
        self.device.advance()
        for name in ("load_wh", "panel_wh", "spilled_wh", "lost_wh"):
            getattr(life, name)[i] = sum(float(getattr(flow, name)[0]) for _, flow in self._steps)
        on_s = sum(seconds * float(flow.on_share[0]) for seconds, flow in self._steps)
        life.on_share[i] = on_s / self._period_s
        life.compute_wh[i] = compute_w * on_s / 3600.0
        life.is_brown_out[i] = any(flow.is_brown_out[0] for _, flow in self._steps)
        life.soc[i] = self.device.soc
