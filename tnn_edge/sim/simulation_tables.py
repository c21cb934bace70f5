"""The tables of a simulation: every key with its meaning, its default and its bounds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from tnn_edge.control import REFERENCE
from tnn_edge.plant import Battery, Clouds, Converter, Panel, ThermalNode, ThermalThrottle
from tnn_edge.sim.events import EventRate
from tnn_edge.sim.workload import Workload

__all__ = ["FleetTable", "NetworkTable", "SceneTable", "SimulationTable", "SunlightTable"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SunlightTable(_Table):
    """`[sunlight]`: measurements of the user's own, in place of a site.

    Attributes:
        csv: file with the columns time, ghi and, if known, temp_air; relative to the simulation file.
        latitude_deg: degrees north.
        longitude_deg: degrees east.
        utc_offset_h: of local standard time.
    """

    csv: str = Field(min_length=1)
    latitude_deg: float = Field(ge=-90.0, le=90.0)
    longitude_deg: float = Field(ge=-180.0, le=180.0)
    utc_offset_h: float = Field(ge=-12.0, le=14.0)


class NetworkTable(_Table):
    """`[network]`.

    Attributes:
        profile: "reference", or a file of what each operating point draws and how well it answers.
        brown_out_cost_events: what losing power costs besides the time in the dark, in events answered right.
    """

    profile: Annotated[str, Field(min_length=1)] = REFERENCE
    brown_out_cost_events: Annotated[float, Field(ge=0.0)] = 60.0


class SceneTable(_Table):
    """`[scene]`.

    Attributes:
        lamp_lux: illuminance by lamps that always burn; a street light gives 10.
        moon_lux: illuminance of a full moon.
        haze: standard deviation of the logarithm by which a scene is worth less light than the meter reads.
        haze_h: time constant of it in hours.
    """

    lamp_lux: Annotated[float, Field(ge=0.0, le=100_000.0)] = 10.0
    moon_lux: Annotated[float, Field(ge=0.0, le=1.0)] = 0.2
    haze: Annotated[float, Field(ge=0.0, le=5.0)] = 0.7
    haze_h: Annotated[float, Field(gt=0.0)] = 3.0


class FleetTable(_Table):
    """`[fleet]`: how devices of one kind differ, as standard deviations over the mean.

    Attributes:
        panel_spread: of the panels' power: dirt, shade, angle.
        battery_spread: of the batteries' capacity: age, make.
        idle_spread: of the boards' idle power.
    """

    panel_spread: Annotated[float, Field(ge=0.0, le=0.3)] = 0.1
    battery_spread: Annotated[float, Field(ge=0.0, le=0.3)] = 0.05
    idle_spread: Annotated[float, Field(ge=0.0, le=0.3)] = 0.05


class SimulationTable(_Table):
    """The whole file.

    Attributes:
        site: where the sun was measured: greensboro, miami or sand_point.
        sunlight: the table [sunlight] with csv, measurements of your own, in place of site.
        seed: of the first year of weather and work; those of a fleet follow it.
        first_day: of the year on which it begins, 1 is January 1.
        start_soc: state of charge at the start, in [0, 1].
        period_s: seconds between two decisions, a divisor of an hour.
        panel: the table [panel] with rated_w, what charges the battery.
        battery: the table [battery] with usable_wh, what the board runs on.
        converter: the table [converter] with efficiency, between battery and board.
        thermal: the table [thermal], how the board warms.
        throttle: the table [throttle], what the board does when it is hot.
        network: the table [network] with profile, what u draws and is worth.
        workload: the table [workload], which share of full computing events ask for.
        events: the table [events], what there is to see.
        scene: the table [scene], lamps and haze.
        clouds: the table [clouds], how light flickers.
        fleet: the table [fleet], how devices differ.
    """

    site: str | None = None
    sunlight: SunlightTable | None = None
    seed: int = Field(0, ge=0, lt=2**32)
    first_day: int = Field(1, ge=1, le=365)
    start_soc: float = Field(0.6, ge=0.0, le=1.0)
    period_s: float = Field(900.0, ge=60.0, le=3600.0)
    panel: Panel
    battery: Battery
    converter: Converter = Field(default_factory=Converter)
    thermal: ThermalNode = Field(default_factory=ThermalNode)
    throttle: ThermalThrottle = Field(default_factory=ThermalThrottle)
    network: NetworkTable = NetworkTable()
    workload: Workload = Field(default_factory=Workload)
    events: EventRate = Field(default_factory=EventRate)
    scene: SceneTable = SceneTable()
    clouds: Clouds = Field(default_factory=Clouds)
    fleet: FleetTable = FleetTable()

    @model_validator(mode="after")
    def _one_sun(self) -> SimulationTable:
        if (self.site is None) == (self.sunlight is None):
            raise ValueError('there must be either site = "greensboro" or a table [sunlight] with a csv')
        return self
