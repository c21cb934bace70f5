"""The price rule: energy has a price by how much of it there is, and u is what is worth its price."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tnn_edge.control.device_profile import DeviceProfile, reference_profile
from tnn_edge.control.harvest_average import HarvestAverage
from tnn_edge.control.marginal_value import LACKS, MarginalValue
from tnn_edge.control.observation import Observation, check_value
from tnn_edge.control.policy import Decision

__all__ = ["PricePolicy"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PricePolicy:
    """u = argmax events_per_h accuracy(u, lux) - price workload power_w(u), the price from charge and income.

    Without limits of the battery the best plan of a day spends so that the last Wh is worth the same at every moment
    (water-filling): there is one price of energy, which only an empty or a full battery moves. This rule guesses it
    from the power that may be spent, as pacing does:

        budget_w = (harvest + (soc - target_soc) battery_wh / horizon_h) converter_efficiency - idle_w
        price_per_wh = price_at_zero_per_wh exp(-price_slope clip(budget_w / compute_w, -1, 1))

    where harvest is the exponential average of `power_in_w` and compute_w the profile's power at u = 1. Where accuracy
    grows as 1 - exp(-3u), the marginal value falls as exp(-3u): hence a price that is log-linear in the budget.

    Attributes:
        battery_wh: usable energy of the battery.
        expected_harvest_w: the average income before anything was measured.
        price_at_zero_per_wh: events that a Wh is worth while there is just enough for the idle board, > 0.
        price_slope: how fast the price falls as the budget grows, >= 0.
        target_soc: state of charge to steer to.
        horizon_h: hours in which a surplus or deficit is worked off.
        harvest_time_constant_h: of the average.
        converter_efficiency: power at the board's input over what it costs the battery, in (0, 1].
        base_workload: the signal `workload` while nothing happens.
        full_events_per_h: events an hour that make a workload of 1.
        profile: what each operating point draws, and how well it answers by light.
    """

    battery_wh: float
    expected_harvest_w: float
    price_at_zero_per_wh: float = 20.0
    price_slope: float = 7.0
    target_soc: float = 0.6
    horizon_h: float = 24.0
    harvest_time_constant_h: float = 48.0
    converter_efficiency: float = 0.9
    base_workload: float = 0.25
    full_events_per_h: float = 240.0
    profile: DeviceProfile = field(default_factory=reference_profile)

    def __post_init__(self) -> None:
        for name in ("battery_wh", "price_at_zero_per_wh", "horizon_h", "harvest_time_constant_h"):
            if not 0.0 < (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be a finite number above 0, got {value:g}")
        for name in ("expected_harvest_w", "price_slope"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value:g}")
        if not 0.0 < self.converter_efficiency <= 1.0:
            raise ValueError(f"converter_efficiency must lie in (0, 1], got {self.converter_efficiency:g}")
        check_value("target_soc", "soc", self.target_soc)
        self.marginal_value()  # checks the rest

    @property
    def reasons(self) -> tuple[str, ...]:
        return ("price", *LACKS)

    @property
    def signals(self) -> frozenset[str]:
        return frozenset({"soc", "power_in_w", "lux", "workload"})

    def initial_state(self, n: int) -> HarvestAverage:
        return HarvestAverage.expecting(self.expected_harvest_w, n)

    def marginal_value(self) -> MarginalValue:
        """How events are weighed against energy."""
        return MarginalValue(
            profile=self.profile, base_workload=self.base_workload, full_events_per_h=self.full_events_per_h
        )

    def log_price(self, observation: Observation, state: HarvestAverage) -> tuple[Floats, HarvestAverage]:
        """Natural logarithm of the price in events per Wh, shape [n], and the next state; NaN where soc is unknown."""
        average = state.after(observation, time_constant_h=self.harvest_time_constant_h)
        surplus_w = (observation["soc"] - self.target_soc) * self.battery_wh / self.horizon_h
        budget_w = (average.harvest_w + surplus_w) * self.converter_efficiency - self.profile.idle_w
        share = np.clip(budget_w / self.profile.power_w[-1], -1.0, 1.0)
        return math.log(self.price_at_zero_per_wh) - self.price_slope * share, average

    def at_price(self, observation: Observation, log_price: Floats) -> Decision:
        """The throttle that is worth its price.

        Args:
            observation: of n devices.
            log_price: natural logarithm of events per Wh, shape [n].
        """
        return self.marginal_value().decide(observation, np.exp(log_price))

    def decide(self, observation: Observation, state: HarvestAverage) -> tuple[Decision, HarvestAverage]:
        log_price, average = self.log_price(observation, state)
        return self.at_price(observation, log_price), average
