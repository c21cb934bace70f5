"""A day as a user writes it down: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from tnn_edge.control import Governed, read_policy
from tnn_edge.plant import Battery, BoardLoad, Clouds, ImageSensor, Panel, Site, ThermalNode, Weather
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place

__all__ = ["Scenario", "read_scenario"]

_SECONDS_PER_DAY = 86_400

_OUR_ROWS = ("always u = 1", "best constant")
"""How the rows begin that every table has."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PolicyTable(_Table):
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
        period_s: seconds between two decisions of the policy, a divisor of a day.
    """

    start_hour: float = Field(0.0, ge=0.0, lt=24.0)
    period_s: float = Field(ge=1.0, le=float(_SECONDS_PER_DAY))


class WeatherTable(_Table):
    """`[weather]`.

    Attributes:
        clearness: for each day, the share of the clear sky's light that arrives; 0.7 fine, 0.3 overcast.
        night_lux: illuminance without sun; full moon 0.1, street light 10.
        mean_air_c: mean temperature of the air.
        air_swing_c: half the difference between the warmest hour and the coldest.
    """

    clearness: Annotated[list[float], Field(min_length=1, max_length=366)]
    night_lux: float
    mean_air_c: float = Field(15.0, ge=-60.0, le=60.0)
    air_swing_c: float = Field(6.0, le=60.0)


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
        policies: what to compare; the first is shown while its day runs.
        start_soc: state of charge at the start, in [0, 1].
    """

    bundle: str = Field(min_length=1)
    images: str = Field(min_length=1)
    seed: int = Field(0, ge=0, lt=2**32)
    start_soc: float = Field(ge=0.0, le=1.0)
    policies: Annotated[list[PolicyTable], Field(min_length=1)]
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


@dataclass(frozen=True, eq=False, kw_only=True)
class Scenario:
    """A device, its place and its weather, and the policies that it is to be run with.

    Attributes:
        path: the file it was read from.
        text: what the file says.
        bundle: folder of the network.
        images: folder of labelled images.
        policies: name -> policy under its governor; the first is shown while its day runs.
        policy_texts: name -> what the policy's file says.
        seed: of the weather and of the image noise.
        n_days: length of the run in days of 24 hours.
        start_hour: local hour at which it begins.
        period_s: seconds between two decisions.
        weather: of the calendar days that the run touches.
        panel: what charges the battery.
        battery: what the board runs on.
        start_soc: its state of charge at the start.
        board: what it draws.
        thermal: how it warms.
        fps: frames a second of the modelled camera.
        images_per_period: images that the network really sees in a period.
        reflectance: mean reflectance that the light meter assumes.
        sensor: through which the camera sees them.
    """

    path: Path
    text: str
    bundle: Path
    images: Path
    policies: dict[str, Governed[Any]]
    policy_texts: dict[str, str]
    seed: int
    n_days: int
    start_hour: float
    period_s: float
    weather: Weather
    panel: Panel
    battery: Battery
    start_soc: float
    board: BoardLoad
    thermal: ThermalNode
    fps: float
    images_per_period: int
    reflectance: float
    sensor: ImageSensor

    @property
    def first_period(self) -> int:
        """Periods from the first midnight to the start."""
        return round(self.start_hour * 3600.0 / self.period_s)

    @property
    def n_periods(self) -> int:
        """Periods of the run."""
        return self.n_days * round(_SECONDS_PER_DAY / self.period_s)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario with its policies.

    Raises:
        ConfigError: the file or a policy file is missing, is no TOML, or does not hold; with the line, key and a way
            out of each fault.
    """
    file = TomlFile.read(path)
    table = file.validate(ScenarioTable)
    file.fail(_faults(table, path.parent))
    return Scenario(
        path=path,
        text=file.text,
        bundle=path.parent / table.bundle,
        images=path.parent / table.images,
        policies={row.name: read_policy(path.parent / row.file) for row in table.policies},
        policy_texts={row.name: TomlFile.read(path.parent / row.file).text for row in table.policies},
        seed=table.seed,
        n_days=len(table.weather.clearness),
        start_hour=table.time.start_hour,
        period_s=table.time.period_s,
        weather=_weather(file, table),
        panel=table.panel,
        battery=table.battery,
        start_soc=table.start_soc,
        board=table.board,
        thermal=table.thermal,
        fps=table.camera.fps,
        images_per_period=table.camera.images_per_period,
        reflectance=table.camera.reflectance,
        sensor=table.sensor,
    )


def _weather(file: TomlFile, table: ScenarioTable) -> Weather:
    clearness = table.weather.clearness
    if table.time.start_hour > 0.0:  # the run ends on a day more, whose morning is like the last day's
        clearness = [*clearness, clearness[-1]]
    settings = table.weather.model_dump() | {"clearness": clearness}
    try:
        return Weather(site=table.site, clouds=table.clouds, **settings)
    except ValueError as err:
        file.fail([Fault(("weather",), str(err))])
        raise


def _faults(table: ScenarioTable, folder: Path) -> Iterator[Fault]:
    """What is wrong between tables that are sound one by one."""
    for key in ("bundle", "images"):
        if not (folder / getattr(table, key)).is_dir():
            yield Fault((key,), f"there is no folder {folder / getattr(table, key)}; the path is relative to the file")
    seen: set[str] = set()
    for i, row in enumerate(table.policies):
        place: Place = ("policies", i)
        if row.name in seen or row.name.startswith(_OUR_ROWS):
            yield Fault((*place, "name"), f"the name {row.name!r} is taken; choose another")
        seen.add(row.name)
        if not (folder / row.file).is_file():
            yield Fault((*place, "file"), f"there is no file {folder / row.file}; the path is relative to this file")
    period_s = table.time.period_s
    if not _divides(period_s, _SECONDS_PER_DAY):
        yield Fault(("time", "period_s"), f"must divide a day of {_SECONDS_PER_DAY} s, got {period_s:g}; say 300")
    elif not _divides(period_s, table.time.start_hour * 3600.0):
        yield Fault(
            ("time", "start_hour"),
            f"must be a whole number of periods of {period_s:g} s after midnight, got {table.time.start_hour:g}",
        )


def _divides(part: float, whole: float) -> bool:
    return abs(whole / part - round(whole / part)) < 1e-9
