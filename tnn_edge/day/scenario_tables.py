"""The tables of a scenario: every key with its meaning, its default and its bounds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, field_validator

from tnn_edge.control import SIGNALS
from tnn_edge.plant import Battery, BoardLoad, Clouds, ImageSensor, Panel, Site, ThermalNode

__all__ = [
    "ALWAYS_FULL",
    "BEST_CONSTANT",
    "SECONDS_PER_DAY",
    "CameraTable",
    "EntryTable",
    "ScenarioTable",
    "TimeTable",
    "WeatherTable",
]

ALWAYS_FULL = "always u = 1"
BEST_CONSTANT = "best constant u"
"""Rows that every result has; no policy's name may begin like one."""

SECONDS_PER_DAY = 86_400

_MAX_PERIOD_S = 3600.0
"""Sun and plant are sampled once a period: a longer one would miss the day's course."""

_MAX_DAYS = 366


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class EntryTable(_Table):
    """One `[[policies]]`.

    Attributes:
        name: what tables and pictures call it.
        file: the policy file, relative to the scenario.
    """

    name: str = Field(min_length=1, max_length=40)
    file: str = Field(min_length=1)


class TimeTable(_Table):
    """`[time]`.

    Attributes:
        start_hour: local hour at which the run begins; it lasts 24 hours for each entry of weather.clearness.
        period_s: seconds between two decisions of the policy, a divisor of a day; sun and plant are sampled as often.
    """

    start_hour: float = Field(0.0, ge=0.0, lt=24.0)
    period_s: float = Field(ge=1.0, le=_MAX_PERIOD_S)


class WeatherTable(_Table):
    """`[weather]`.

    Attributes:
        clearness: for each day, the share of the clear sky's light that arrives; 0.7 fine, 0.3 overcast.
        night_lux: illuminance without sun; full moon 0.1, street light 10.
        mean_air_c: mean temperature of the air.
        air_swing_c: half the difference between the warmest hour and the coldest.
    """

    clearness: list[float]
    night_lux: float = Field(ge=SIGNALS["lux"].low, le=SIGNALS["lux"].high)
    mean_air_c: float = Field(15.0, ge=-60.0, le=60.0)
    air_swing_c: float = Field(6.0, ge=0.0, le=60.0)

    @field_validator("clearness")
    @classmethod
    def _some_days(cls, clearness: list[float]) -> list[float]:
        if not 1 <= len(clearness) <= _MAX_DAYS:
            raise ValueError(f"must have one number for each day, 1 to {_MAX_DAYS} of them, got {len(clearness)}")
        return clearness


class CameraTable(_Table):
    """`[camera]`.

    Attributes:
        fps: frames a second that the modelled camera takes.
        images_per_period: images that the network really sees in each period; they stand for all of its frames.
        reflectance: mean reflectance of the scene, which the light meter assumes.
    """

    fps: float = Field(gt=0.0, le=1000.0)
    images_per_period: int = Field(ge=1, le=10_000)
    reflectance: float = Field(0.18, gt=0.0, le=1.0)


class ScenarioTable(_Table):
    """The whole file.

    Attributes:
        bundle: folder of the network, relative to the file.
        images: folder of labelled images, <class>/*.jpg, relative to the file.
        seed: of the weather, the order of the images and their noise.
        start_soc: state of charge at the start, in [0, 1].
        policies: one table [[policies]] with name and file for each policy; the first is shown while its day runs.
        time: the table [time] with period_s, seconds between two decisions of the policy.
        site: the table [site] with latitude_deg and day_of_year, where the sun is.
        weather: the table [weather] with clearness, a number for each day, and night_lux.
        clouds: the table [clouds], how light fluctuates.
        panel: the table [panel] with rated_w, what charges the battery.
        battery: the table [battery] with usable_wh, what the board runs on.
        board: the table [board] with idle_w and compute_w, what the board draws.
        thermal: the table [thermal], how the board warms.
        camera: the table [camera] with fps and images_per_period, what it takes and how much of it is computed.
        sensor: the table [sensor], through which the camera sees.
    """

    bundle: str = Field(min_length=1)
    images: str = Field(min_length=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start_soc: float = Field(ge=0.0, le=1.0)
    policies: list[EntryTable]
    time: TimeTable
    site: Site
    weather: WeatherTable
    clouds: Clouds = Field(default_factory=Clouds)
    panel: Panel
    battery: Battery
    board: BoardLoad
    thermal: ThermalNode = Field(default_factory=ThermalNode)
    camera: CameraTable
    sensor: ImageSensor = Field(default_factory=ImageSensor)

    @field_validator("policies")
    @classmethod
    def _some_policies(cls, policies: list[EntryTable]) -> list[EntryTable]:
        if not policies:
            raise ValueError("must have at least one table [[policies]] with name and file, got none")
        return policies
