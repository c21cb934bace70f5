"""A day as a user writes it down: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tnn_edge.control import Governed, read_policies
from tnn_edge.day.scenario_tables import ALWAYS_FULL, BEST_CONSTANT, SECONDS_PER_DAY, ScenarioTable
from tnn_edge.plant import Battery, BoardLoad, ImageSensor, Panel, ThermalNode, Weather
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place
from tnn_edge.user_path import missing, under

__all__ = ["Scenario", "read_scenario"]


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
        return self.n_days * round(SECONDS_PER_DAY / self.period_s)


def read_scenario(path: Path) -> Scenario:
    """Read a scenario with its policies.

    Raises:
        ConfigError: the file or a policy file is missing, is no TOML, or does not hold; with the line, key and a way
            out of each fault.
    """
    file = TomlFile.read(path)
    table = file.validate(ScenarioTable)
    folder = path.parent
    named: dict[Place, Path] = {("policies", i, "file"): Path(row.file) for i, row in enumerate(table.policies)}
    policies = read_policies(file, _faults(table, folder), named)
    return Scenario(
        path=path,
        text=file.text,
        bundle=under(folder, Path(table.bundle)),
        images=under(folder, Path(table.images)),
        policies={row.name: policy for row, policy in zip(table.policies, policies.values(), strict=True)},
        policy_texts={row.name: under(folder, Path(row.file)).read_text() for row in table.policies},
        seed=table.seed,
        n_days=len(table.weather.clearness),
        start_hour=table.time.start_hour,
        period_s=table.time.period_s,
        weather=_weather(table),
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


def _weather(table: ScenarioTable) -> Weather:
    clearness = table.weather.clearness
    if table.time.start_hour > 0.0:  # the run ends on a day more, whose morning is like the last day's
        clearness = [*clearness, clearness[-1]]
    return Weather(site=table.site, clouds=table.clouds, **table.weather.model_dump() | {"clearness": clearness})


def _faults(table: ScenarioTable, folder: Path) -> Iterator[Fault]:
    """What is wrong between tables that are sound one by one."""
    for key in ("bundle", "images"):
        if told := missing(folder, Path(getattr(table, key)), "folder"):
            yield Fault((key,), told)
    seen: set[str] = set()
    for i, row in enumerate(table.policies):
        if row.name in seen or row.name.startswith((ALWAYS_FULL, BEST_CONSTANT)):
            yield Fault(("policies", i, "name"), f"the name {row.name!r} is taken; choose another")
        seen.add(row.name)
        if told := missing(folder, Path(row.file), "file"):
            yield Fault(("policies", i, "file"), told)
    for i, share in enumerate(table.weather.clearness):
        if not 0.0 < share < table.clouds.max_index:
            bounds = f"must lie above 0 and below {table.clouds.max_index:g}"
            yield Fault(("weather", "clearness", i), f"{bounds}, got {share:g}; say 0.7 for fine weather, 0.3 for dull")
    period_s = table.time.period_s
    if not _divides(period_s, SECONDS_PER_DAY):
        yield Fault(("time", "period_s"), f"must divide a day of {SECONDS_PER_DAY} s, got {period_s:g}; say 300")
    elif not _divides(period_s, table.time.start_hour * 3600.0):
        yield Fault(
            ("time", "start_hour"),
            f"must be a whole number of periods of {period_s:g} s after midnight, got {table.time.start_hour:g}",
        )


def _divides(part: float, whole: float) -> bool:
    return abs(whole / part - round(whole / part)) < 1e-9
