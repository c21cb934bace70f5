"""Model-predictive control: the price of energy by a plan over the next day or two, made anew every hour."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from tnn_edge.control.demand import DemandTable
from tnn_edge.control.device_profile import DeviceProfile, reference_profile
from tnn_edge.control.forecast import ClearSky, Experience, Memory
from tnn_edge.control.marginal_value import LACKS, MarginalValue
from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision
from tnn_edge.plant import Panel

__all__ = ["MpcPolicy", "MpcState"]

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]

_PLAN_S = 3600.0
_N_BISECTIONS = 14
_RANGE_BELOW = 5.0
"""So far below what the busiest hour pays the logarithm of a price may fall: hours with little to see pay less."""


@dataclass(frozen=True, eq=False, kw_only=True)
class MpcState:
    """What it remembers of n devices.

    Attributes:
        experience: of weather and work.
        price_per_wh: of the last plan, NaN without one, shape [n].
        planned_s: when that was made, shape [n].
    """

    experience: Experience
    price_per_wh: Floats
    planned_s: Floats


@dataclass(frozen=True, kw_only=True)
class MpcPolicy:
    """u = argmax events_per_h accuracy(u, lux) - price workload power_w(u), the price by a plan.

    Once an hour the charge is foretold hour by hour: what comes in is the power that the panel has under a clear sky,
    times the share of it that came in lately; what there is to see and the light are those of the same hour in the last
    days. The price is the lowest at which the charge gets to full before it falls through `reserve_soc`, or else ends
    at `end_soc` or above. Of the best plan for the forecast that is the price of its first stretch: the price may
    change where the battery is empty or full, and nowhere else. Until the next plan it is applied to what is observed.

    Attributes:
        battery_wh: usable energy of the battery.
        panel_w: rated power of the panel.
        latitude_deg: degrees north.
        solar_lead_h: hours by which true solar time is ahead of the clock: longitude in degrees east / 15, less the
            hours by which the clock is ahead of UTC; within a quarter of an hour, as the year goes.
        panel_derating: what dirt, shade, wiring and charge controller leave of the panel's power, in (0, 1].
        expected_index: share of the clear sky's power that comes in, before anything was measured.
        index_memory_sun_h: hours of full sun in which that share is forgotten.
        day_memory_days: days in which the course of a day is forgotten.
        expected_workload: before anything was seen.
        expected_night_lux: light without sun, before anything was seen.
        horizon_h: length of the plan, in [1, 168].
        reserve_soc: state of charge that the plan keeps for what it does not foresee.
        end_soc: state of charge at its end.
        storage_efficiency: what comes out of a battery of what goes in, in (0, 1].
        converter_efficiency: power at the board's input over what it costs the battery, in (0, 1].
        base_workload: the signal `workload` while nothing happens.
        full_events_per_h: events an hour that make a workload of 1.
        profile: what each operating point draws, and how well it answers by light.
    """

    battery_wh: float
    panel_w: float
    latitude_deg: float
    solar_lead_h: float = 0.0
    panel_derating: float = 0.85
    expected_index: float = 0.6
    index_memory_sun_h: float = 8.0
    day_memory_days: float = 3.0
    expected_workload: float = 0.5
    expected_night_lux: float = 10.0
    horizon_h: float = 48.0
    reserve_soc: float = 0.15
    end_soc: float = 0.5
    storage_efficiency: float = 0.94
    converter_efficiency: float = 0.9
    base_workload: float = 0.25
    full_events_per_h: float = 240.0
    profile: DeviceProfile = field(default_factory=reference_profile)

    def __post_init__(self) -> None:
        for name in ("battery_wh", "panel_w", "index_memory_sun_h", "day_memory_days"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        for name in ("storage_efficiency", "converter_efficiency", "panel_derating", "expected_index"):
            if not 0.0 < (value := getattr(self, name)) <= 1.0:
                raise ValueError(f"{name} must lie in (0, 1], got {value:g}")
        for name, signal in (
            ("reserve_soc", "soc"),
            ("end_soc", "soc"),
            ("expected_workload", "workload"),
            ("expected_night_lux", "lux"),
        ):
            check_value(name, signal, getattr(self, name))
        for name, low, high in (("latitude_deg", -90, 90), ("solar_lead_h", -12, 12), ("horizon_h", 1, 168)):
            if not low <= (value := getattr(self, name)) <= high:
                raise ValueError(f"{name} must lie in [{low}, {high}], got {value:g}")
        if not self.reserve_soc <= self.end_soc:
            raise ValueError(f"end_soc must not be below reserve_soc {self.reserve_soc:g}, got {self.end_soc:g}")
        self._value  # noqa: B018 -- checks the rest

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("mpc", *LACKS, "unknown_hour", "unknown_day_of_year")

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc", "power_in_w", "lux", "workload", "hour", "day_of_year"})

    def initial_state(self, n: int) -> MpcState:
        unplanned = np.full(n, np.nan)
        return MpcState(
            experience=Experience.none(n, index=self.expected_index), price_per_wh=unplanned, planned_s=unplanned
        )

    def decide(self, observation: Observation, state: MpcState) -> tuple[Decision, MpcState]:
        memory = Memory(sun_h=self.index_memory_sun_h, days=self.day_memory_days)
        experience = state.experience.after(observation, self._sky, memory)
        age_s = observation.time_s - state.planned_s
        due = np.flatnonzero(np.isnan(state.price_per_wh) | ~((age_s >= 0.0) & (age_s < _PLAN_S)))
        price_per_wh, planned_s = state.price_per_wh, state.planned_s
        if due.size:
            price_per_wh, planned_s = price_per_wh.copy(), planned_s.copy()
            price_per_wh[due], planned_s[due] = self._plan(observation, experience, due), observation.time_s
        decision = self._value.decide(observation, price_per_wh)
        after = MpcState(experience=experience, price_per_wh=price_per_wh, planned_s=planned_s)
        return self._with_reason(decision, observation), after

    @cached_property
    def _value(self) -> MarginalValue:
        return MarginalValue(
            profile=self.profile, base_workload=self.base_workload, full_events_per_h=self.full_events_per_h
        )

    @cached_property
    def _sky(self) -> ClearSky:
        panel = Panel(rated_w=self.panel_w, derating=self.panel_derating)
        return ClearSky(latitude_deg=self.latitude_deg, solar_lead_h=self.solar_lead_h, panel=panel)

    @cached_property
    def _demand(self) -> DemandTable:
        return DemandTable.of(self.profile)

    def _with_reason(self, decision: Decision, observation: Observation) -> Decision:
        """A plan may lack the charge, the hour or the date; the choice at its price knows of the charge alone."""
        no_plan = (decision.reason == 1) & ~np.isnan(observation["soc"])
        if not no_plan.any():
            return decision
        first = len(self.reasons) - 2
        clock = np.where(np.isnan(observation["hour"]), first, first + 1)
        return Decision(decision.u, np.where(no_plan, clock, decision.reason))

    def _plan(self, observation: Observation, experience: Experience, devices: Ints) -> Floats:
        """Prices of some devices, NaN where the charge, the hour or the date is unknown; of the shape of `devices`."""
        soc, hour, day = (observation[name][devices] for name in ("soc", "hour", "day_of_year"))
        can = ~(np.isnan(soc) | np.isnan(hour) | np.isnan(day))
        price_per_wh = np.full(len(devices), np.nan)
        if can.any():
            planned = devices[can]
            price_per_wh[can] = self._prices(soc[can], hour[can], day[can], experience, planned)
        return price_per_wh

    def _prices(self, soc: Floats, hour: Floats, day: Floats, experience: Experience, devices: Ints) -> Floats:
        steps = 0.5 + np.arange(math.ceil(self.horizon_h), dtype=np.float64)
        hours = hour + steps[:, None]  # [n_steps, n], the middle of each
        sine = self._sky.sine(day, hours)
        index = experience.index[devices]
        income_w = index * self._sky.power_w(sine)
        column = hours.astype(np.intp) % 24
        workload = experience.workload[devices, column]
        workload = np.where(np.isnan(workload), self.expected_workload, workload)
        usual = np.log10(self._sky.lux(sine, index=index, night_lux=max(self.expected_night_lux, 1e-3)))
        log_lux = experience.log_lux[devices, column]
        lux = 10.0 ** np.where(np.isnan(log_lux), usual, log_lux)
        rows = self._demand.rows_at(self.profile.level_at(lux))
        events_per_h = self._value.events_per_h(workload)
        pays = np.where(events_per_h > 0.0, events_per_h / np.maximum(workload, 1e-9), 1e-300)
        log_pays = np.log(pays)  # accuracy is worth a Wh at this price and below

        high = np.full(len(devices), math.log(self.full_events_per_h) + self._demand.high)
        low = np.full(len(devices), math.log(self.full_events_per_h) + self._demand.low - _RANGE_BELOW)
        for _ in range(_N_BISECTIONS):
            middle = 0.5 * (low + high)
            compute_w = workload * self._demand.power_at(rows, middle - log_pays)
            holds = self._holds(soc, income_w - (self.profile.idle_w + compute_w) / self.converter_efficiency)
            high, low = np.where(holds, middle, high), np.where(holds, low, middle)
        return np.asarray(np.exp(high))

    def _holds(self, soc: Floats, net_w: Floats) -> npt.NDArray[np.bool_]:
        """Whether the charge gets to full before it falls through the reserve, or ends high enough; shape [n].

        Args:
            soc: at the start, shape [n].
            net_w: power in less power out, hour by hour, shape [n_steps, n].
        """
        stored_wh = np.where(net_w > 0.0, self.storage_efficiency * net_w, net_w)
        path = soc + np.cumsum(stored_wh, axis=0) / self.battery_wh
        n_steps = len(path)
        full, low = path >= 1.0, (path < self.reserve_soc) & (net_w < 0.0)  # below it, but rising, is right
        first_full = np.where(full.any(axis=0), full.argmax(axis=0), n_steps)
        first_low = np.where(low.any(axis=0), low.argmax(axis=0), n_steps)
        ends_well = (first_low == n_steps) & (path[-1] >= self.end_soc)
        return np.asarray((first_full < first_low) | ends_well)
