"""What the environment simulates, and which episodes it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tnn_edge.control import PricePolicy, Reserve
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import CameraDevice, reference_device
from tnn_edge.sim.climate import Climate
from tnn_edge.sim.drawing import Surroundings
from tnn_edge.sim.envelope import declare_reserve, known_years

__all__ = ["ACTIONS", "EnvSettings"]

ACTIONS = ("log_price", "direct")
"""What an action may mean."""

N_DAYS = 365


@dataclass(frozen=True, eq=False, kw_only=True)
class EnvSettings:
    """Settings of `tnn_edge/CameraDevice-v0`; `gymnasium.make` takes each of them by name.

    Attributes:
        device: what is simulated.
        rule: the price rule that an action corrects; by default one for the device.
        sites: of the traces.
        split: pool of days that they are drawn from.
        n_traces: years drawn for each site.
        trace_seed: of the first year of each site; the others follow it.
        step_s: time between two decisions, a divisor of an hour.
        horizon_days: length of an episode.
        start_soc: least and largest state of charge at its beginning.
        action: `log_price`, a correction of the rule, or `direct`, u itself.
        shield_years: years of weather that the reserve of a shield is worked out from, at each site; 0 for no shield.
        surroundings: lamps, haze and work.
    """

    device: CameraDevice = field(default_factory=reference_device)
    rule: PricePolicy | None = None
    sites: Sequence[str] = ("greensboro", "miami")
    split: str = "train"
    n_traces: int = 4
    trace_seed: int = 0
    step_s: float = 900.0
    horizon_days: int = 14
    start_soc: tuple[float, float] = (0.2, 1.0)
    action: str = "log_price"
    shield_years: int = 0
    surroundings: Surroundings = field(default_factory=Surroundings)

    def __post_init__(self) -> None:
        if self.action not in ACTIONS:
            raise InputError(f"action must be one of {', '.join(ACTIONS)}, got {self.action!r}")
        if not self.sites:
            raise InputError("sites must name at least one site, got none")
        if self.n_traces < 1:
            raise InputError(f"n_traces must be at least 1, got {self.n_traces}")
        if not 1 <= self.horizon_days < N_DAYS:
            raise InputError(f"horizon_days must lie in [1, {N_DAYS - 1}], got {self.horizon_days}")
        if self.shield_years < 0:
            raise InputError(f"shield_years must not be negative, got {self.shield_years}")
        low, high = self.start_soc
        if not 0.0 <= low <= high <= 1.0:
            raise InputError(f"start_soc must be two rising numbers in [0, 1], got {self.start_soc}")

    @property
    def n_steps(self) -> int:
        """Steps of an episode."""
        return round(self.horizon_days * 86_400.0 / self.step_s)

    def reserve(self, climate: Climate) -> Reserve | None:
        """The reserve that the shield keeps at a site, None for no shield."""
        if self.shield_years == 0:
            return None
        years = known_years(climate, self.shield_years, step_s=self.step_s, surroundings=self.surroundings)
        return declare_reserve(self.device, years)

    def price_rule(self) -> PricePolicy:
        """The rule that an action corrects."""
        if self.rule is not None:
            return self.rule
        return PricePolicy(
            battery_wh=self.device.board.battery.usable_wh,
            expected_harvest_w=0.1 * self.device.panel.rated_w,
            converter_efficiency=self.device.board.converter.efficiency,
            base_workload=self.device.workload.base_share,
            full_events_per_h=self.device.workload.full_events_per_h,
            profile=self.device.profile,
        )
