"""A board with its battery, converter and heat: what a step of time does to all of them; n at once."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from tnn_edge.plant.battery import Battery, BatteryState, BatteryStep
from tnn_edge.plant.converter import Converter
from tnn_edge.plant.thermal import ThermalNode, ThermalThrottle

__all__ = ["BoardState", "PoweredBoard"]

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class PoweredBoard:
    """What is powered by a battery. The battery is as warm as the air, the board warmer.

    Attributes:
        battery: that it runs on.
        converter: between them.
        thermal: how the board warms by its own power.
        throttle: what it does when it is hot.
    """

    battery: Battery
    converter: Converter = field(default_factory=Converter)
    thermal: ThermalNode = field(default_factory=ThermalNode)
    throttle: ThermalThrottle = field(default_factory=ThermalThrottle)

    def state(self, soc: npt.ArrayLike, air_c: npt.ArrayLike) -> BoardState:
        """Boards as warm as the air, at a state of charge in [0, 1], shape [n] or a number for one.

        They are on where the charge is above the cut-off of a battery as cold as that.
        """
        battery = self.battery.state(soc)
        battery = replace(battery, is_on=battery.charge_wh > self.battery.cut_off_wh(air_c))
        temperature_c = np.broadcast_to(np.asarray(air_c, np.float64), battery.charge_wh.shape)
        return BoardState(battery=battery, temperature_c=temperature_c, is_hot=np.zeros(battery.is_on.shape, np.bool_))

    def served_u(self, u: npt.ArrayLike, state: BoardState) -> Floats:
        """What a board computes at that is asked for u, shape [n]."""
        asked = np.asarray(u, np.float64)
        return np.where(state.is_hot, np.minimum(asked, self.throttle.u), asked)

    def step(
        self,
        state: BoardState,
        *,
        panel_w: npt.ArrayLike,
        load_w: npt.ArrayLike,
        air_c: npt.ArrayLike,
        seconds: float,
    ) -> tuple[BoardState, BatteryStep]:
        """Let constant powers flow for a while.

        Args:
            state: before the step.
            panel_w: power that panel and charger could give, >= 0, shape [n] or a number.
            load_w: power at the board's input while it is on, >= 0, shape [n] or a number.
            air_c: temperature of air and battery, shape [n] or a number.
            seconds: length of the step, > 0.

        Returns:
            State after the step, and where the energy went; `load_wh` is what the converter took for the board.

        Raises:
            ValueError: as `Battery.step`.
        """
        input_w = self.converter.input_w(load_w)
        battery, flow = self.battery.step(
            state.battery, panel_w=panel_w, load_w=input_w, seconds=seconds, temperature_c=air_c
        )
        board_w = flow.on_share * np.asarray(load_w, np.float64)
        temperature_c = self.thermal.step(state.temperature_c, power_w=board_w, air_c=air_c, seconds=seconds)
        is_hot = self.throttle.hot(temperature_c, state.is_hot)
        return BoardState(battery=battery, temperature_c=temperature_c, is_hot=is_hot), flow


@dataclass(frozen=True, eq=False, kw_only=True)
class BoardState:
    """Attributes: battery: its state; temperature_c: of the board, shape [n]; is_hot: whether it slows down, [n]."""

    battery: BatteryState
    temperature_c: Floats
    is_hot: Bools
