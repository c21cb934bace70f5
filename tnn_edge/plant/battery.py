"""A battery between a panel and a load, with a cut-off and a reboot threshold; n devices at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Battery", "BatteryState", "BatteryStep"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

_WARM_C = 20.0
"""From here on the cold takes nothing."""

_HOURS_PER_MONTH = 720.0


@dataclass(frozen=True, kw_only=True)
class Battery:
    """What a battery can hold, what it loses, and what the cold does to it. Age does not change it.

    In the cold the lowest part of the charge cannot be drawn: cut-off and reboot threshold rise, and come down again
    when it warms up. Nothing that was stored is lost by that.

    A cell loses the more, the larger the power; two constant efficiencies stand for that. With those that an equivalent
    circuit of 18650 cells has at the mean power of a camera, 0.998 for 120 Wh, the stored energy stays within 0.2 % of
    `usable_wh` of the circuit's for three days. Protection, wiring and age take more: 0.95 to 0.97 are careful.

    Attributes:
        usable_wh: stored energy between empty and full, at 20 degrees C and above.
        charge_efficiency: stored energy over energy that goes in, in (0, 1].
        discharge_efficiency: energy that comes out over the stored energy it costs, in (0, 1].
        cut_off: state of charge at which the load loses power, in [0, 1).
        reboot: state of charge at which a load that lost power gets it back, in (`cut_off`, 1].
        max_charge_w: most power that goes in; what the panel gives beyond it is spilled.
        cold_loss_per_k: share of `usable_wh` that cannot be drawn, for each K below 20 degrees C, in [0, 0.02]. Makers
            of Li-ion cells give 80 to 90 % at 0 degrees C and 60 to 70 % at -20, under small loads.
        min_charge_c: battery temperature below which nothing is charged; 0 for Li-ion, which would plate lithium.
        self_discharge_per_month: share of `usable_wh` that goes in 30 days, at a constant power, in [0, 1]; protection
            circuit included; about 0.03 for Li-ion.
        boot_wh: energy out of the battery that a load takes to start when it gets its power back.
    """

    usable_wh: float
    charge_efficiency: float = 0.95
    discharge_efficiency: float = 0.95
    cut_off: float = 0.0
    reboot: float = 0.1
    max_charge_w: float = math.inf
    cold_loss_per_k: float = 0.008
    min_charge_c: float = 0.0
    self_discharge_per_month: float = 0.0
    boot_wh: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.usable_wh < math.inf:
            raise ValueError(f"usable_wh must be a finite number above 0, got {self.usable_wh:g}")
        for name in ("charge_efficiency", "discharge_efficiency"):
            if not 0.0 < (value := getattr(self, name)) <= 1.0:
                raise ValueError(f"{name} must lie in (0, 1], got {value:g}")
        if not 0.0 <= self.cut_off < self.reboot <= 1.0:
            raise ValueError(f"need 0 <= cut_off < reboot <= 1, got cut_off {self.cut_off:g}, reboot {self.reboot:g}")
        if not self.max_charge_w > 0.0:
            raise ValueError(f"max_charge_w must be above 0, got {self.max_charge_w:g}")
        if not 0.0 <= self.cold_loss_per_k <= 0.02:
            raise ValueError(f"cold_loss_per_k must lie in [0, 0.02], got {self.cold_loss_per_k:g}")
        if math.isnan(self.min_charge_c):
            raise ValueError("min_charge_c must be a number, got nan")
        if not 0.0 <= self.self_discharge_per_month <= 1.0:
            raise ValueError(f"self_discharge_per_month must lie in [0, 1], got {self.self_discharge_per_month:g}")
        most_wh = (self.reboot - self.cut_off) * self.usable_wh * self.discharge_efficiency
        if not 0.0 <= self.boot_wh < most_wh:
            raise ValueError(
                f"boot_wh must lie in [0, {most_wh:g}), what the battery gives between reboot and cut_off, "
                f"got {self.boot_wh:g}"
            )

    @property
    def self_discharge_w(self) -> float:
        """Power that leaks away while there is charge."""
        return self.self_discharge_per_month * self.usable_wh / _HOURS_PER_MONTH

    def frozen_share(self, temperature_c: npt.ArrayLike) -> Floats:
        """Share of the charge above the cut-off that the cold holds back, of the shape of the battery's temperature."""
        cold = np.maximum(_WARM_C - np.asarray(temperature_c, np.float64), 0.0)
        return np.minimum(self.cold_loss_per_k * cold, 1.0)

    def cut_off_wh(self, temperature_c: npt.ArrayLike) -> Floats:
        """Charge at which the load loses power, of the shape of the battery's temperature."""
        frozen = self.frozen_share(temperature_c)
        return np.asarray(self.usable_wh * (self.cut_off + (1.0 - self.cut_off) * frozen))

    def reboot_wh(self, temperature_c: npt.ArrayLike) -> Floats:
        """Charge at which a load that lost power gets it back, of the shape of the battery's temperature."""
        above = (self.reboot - self.cut_off) * self.usable_wh
        return np.minimum(self.cut_off_wh(temperature_c) + above, self.usable_wh)

    def charge_limit_w(self, temperature_c: npt.ArrayLike) -> Floats:
        """Most power that goes in, of the shape of the battery's temperature."""
        return np.where(np.asarray(temperature_c, np.float64) < self.min_charge_c, 0.0, self.max_charge_w)

    def state(self, soc: npt.ArrayLike) -> BatteryState:
        """Batteries at a state of charge; the load of those at or below the cut-off is off.

        Args:
            soc: in [0, 1], shape [n], or a number for one device.

        Raises:
            ValueError: a state of charge outside [0, 1] or NaN.
        """
        shares = np.atleast_1d(np.asarray(soc, np.float64))
        if (wrong := shares[~((shares >= 0.0) & (shares <= 1.0))]).size:
            raise ValueError(f"soc must lie in [0, 1], got {wrong[0]:g}")
        return BatteryState(charge_wh=shares * self.usable_wh, is_on=shares > self.cut_off)

    def soc(self, state: BatteryState) -> Floats:
        """State of charge in [0, 1], shape [n]."""
        return state.charge_wh / self.usable_wh

    def step(
        self,
        state: BatteryState,
        *,
        panel_w: npt.ArrayLike,
        load_w: npt.ArrayLike,
        seconds: float,
        temperature_c: npt.ArrayLike = 25.0,
    ) -> tuple[BatteryState, BatteryStep]:
        """Let constant powers flow for a while, and solve for what happens exactly.

        The charge leaks first. The panel feeds the load; what it has left charges the battery, what it lacks the
        battery gives. A load whose battery reaches the cut-off is off from that moment to the end of the step, while
        the panel charges on.
        A load that is off comes back at the end of a step, where the charge has reached the reboot threshold, and takes
        its energy to boot at once; all else is the same in two half steps as in one step, but for the leak of a battery
        that runs empty or full in between.

        Args:
            state: before the step.
            panel_w: power that the panel could give, >= 0, shape [n] or a number.
            load_w: power that the load draws while it is on, >= 0, shape [n] or a number.
            seconds: length of the step, > 0.
            temperature_c: of the battery, finite, shape [n] or a number.

        Returns:
            State after the step, and where the energy went.

        Raises:
            ValueError: a power that is negative, infinite or NaN, a temperature that is not finite, or a step without
                length.
        """
        if not 0.0 < seconds < math.inf:
            raise ValueError(f"seconds must be a finite number above 0, got {seconds:g}")
        hours = seconds / 3600.0
        panel = _power("panel_w", panel_w, state)
        load = _power("load_w", load_w, state)
        temperature = np.asarray(temperature_c, np.float64)
        if not np.isfinite(temperature).all():
            raise ValueError("temperature_c must be finite")
        max_charge_w = self.charge_limit_w(temperature)
        leaked_wh = np.minimum(state.charge_wh, self.self_discharge_w * hours)
        start_wh = state.charge_wh - leaked_wh

        # While the load is on the battery gives what the panel lacks, for as long as it can.
        needed_wh = np.maximum(load - panel, 0.0) / self.discharge_efficiency * hours
        available_wh = np.maximum(start_wh - self.cut_off_wh(temperature), 0.0)
        is_brown_out = state.is_on & (needed_wh > available_wh)
        on_share = np.divide(available_wh, needed_wh, out=state.is_on.astype(np.float64), where=is_brown_out)
        drawn_wh = np.where(state.is_on, np.minimum(needed_wh, available_wh), 0.0)

        # For charging there is what the load leaves while it is on, and all of the panel while it is off.
        surplus_w = np.maximum(panel - load, 0.0)
        surplus_wh = hours * (on_share * surplus_w + (1.0 - on_share) * panel)
        offered_wh = hours * (
            on_share * np.minimum(surplus_w, max_charge_w) + (1.0 - on_share) * np.minimum(panel, max_charge_w)
        )
        low_wh = start_wh - drawn_wh
        room_wh = self.usable_wh - low_wh
        fills = offered_wh * self.charge_efficiency >= room_wh
        # Full is usable_wh to the last bit; rounding must not invent a spill below 0.
        taken_wh = np.where(fills, np.minimum(room_wh / self.charge_efficiency, offered_wh), offered_wh)
        charge_wh = np.where(fills, self.usable_wh, low_wh + taken_wh * self.charge_efficiency)

        stays = state.is_on & ~is_brown_out
        starts = ~stays & (charge_wh >= self.reboot_wh(temperature))
        boot_wh = np.where(starts, self.boot_wh, 0.0)
        charge_wh = charge_wh - boot_wh / self.discharge_efficiency
        return (
            BatteryState(charge_wh=charge_wh, is_on=stays | starts),
            BatteryStep(
                on_share=on_share,
                load_wh=load * hours * on_share,
                panel_wh=panel * hours,
                spilled_wh=surplus_wh - taken_wh,
                boot_wh=boot_wh,
                lost_wh=leaked_wh
                + (1.0 - self.discharge_efficiency) * (drawn_wh + boot_wh / self.discharge_efficiency)
                + (1.0 - self.charge_efficiency) * taken_wh,
                is_brown_out=is_brown_out,
            ),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class BatteryState:
    """Attributes: charge_wh: stored energy, shape [n]; is_on: whether the load has power, shape [n]."""

    charge_wh: Floats
    is_on: Bools


@dataclass(frozen=True, eq=False, kw_only=True)
class BatteryStep:
    """Where the energy of one step went, all of shape [n].

    No energy appears or is lost, but for rounding:
        panel_wh = load_wh + boot_wh + lost_wh + spilled_wh + (charge_wh after the step - charge_wh before it)

    Attributes:
        on_share: part of the step in which the load had power, in [0, 1].
        load_wh: energy that the load got while it was on.
        boot_wh: energy that it took to start again.
        panel_wh: energy that the panel could give.
        spilled_wh: part of it that neither the load nor the battery took.
        lost_wh: energy turned into heat by charging, discharging and leaking.
        is_brown_out: whether the load lost power in this step.
    """

    on_share: Floats
    load_wh: Floats
    boot_wh: Floats
    panel_wh: Floats
    spilled_wh: Floats
    lost_wh: Floats
    is_brown_out: Bools


def _power(name: str, power_w: npt.ArrayLike, state: BatteryState) -> Floats:
    """A power for each device; one that is negative, infinite or NaN would spoil every later state."""
    power = np.asarray(power_w, np.float64)
    if power.shape not in {(), state.charge_wh.shape}:
        raise ValueError(f"{name} must be a number or of shape {state.charge_wh.shape}, got shape {power.shape}")
    if (wrong := power[~((power >= 0.0) & (power < math.inf))]).size:
        raise ValueError(f"{name} must be finite and not negative, got {wrong[0]:g}")
    return np.broadcast_to(power, state.charge_wh.shape)
