"""A camera as a user writes it: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tnn_edge.bundle.reading import MANIFEST
from tnn_edge.camera.frame import FrameSource
from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.camera.source import source_opener
from tnn_edge.control import Governed, read_policy
from tnn_edge.device import Backend
from tnn_edge.errors import SourceError
from tnn_edge.plant import Exposure, ImageSensor
from tnn_edge.toml_file import Fault, TomlFile

__all__ = ["CameraConfig", "EngineTable", "OutputTable", "PolicyTable", "PowerTable", "SourceTable", "read_config"]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceTable(_Table):
    """`[source]`.

    Attributes:
        spec: where frames come from: "0", "/dev/v4l/by-id/...", "rtsp://...", "test:", a file or a folder.
        stall_s: seconds without a frame after which a live source is given up.
    """

    spec: str = Field(min_length=1)
    stall_s: float = Field(10.0, gt=0.0)


class EngineTable(_Table):
    """`[engine]`.

    Attributes:
        bundle: the bundle's folder.
        device: cpu and cuda are strict; auto takes CUDA where there is.
        threads: threads that compute one inference.
    """

    bundle: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1, le=256)


class PolicyTable(_Table):
    """`[policy]`.

    Attributes:
        file: the policy file, as `tnn-edge policy check` takes it.
        period_s: seconds between two decisions.
        confidence_time_constant_s: of the average over the network's confidences.
    """

    file: Path
    period_s: float = Field(1.0, gt=0.0)
    confidence_time_constant_s: float = Field(10.0, gt=0.0)


class PowerTable(_Table):
    """`[power]`: where battery and mains are read.

    Attributes:
        backend: sysfs, psutil, or auto for the first that there is.
        root: folder of the kernel's power supplies.
        need_battery: refuse to start where the battery's charge cannot be read.
        not_mains: names of supplies that are no mains, a panel's charger for one.
    """

    backend: Backend = "auto"
    root: Path = Path("/sys/class/power_supply")
    need_battery: bool = False
    not_mains: list[str] = []


class TemperatureTable(_Table):
    """`[temperature]`: where the board's temperature is read.

    Attributes:
        root: folder of the kernel's classes, with thermal and hwmon.
        zone: the sensor that counts; without it the hottest.
    """

    root: Path = Path("/sys/class")
    zone: Annotated[str, Field(min_length=1)] | None = None


class LightTable(_Table):
    """`[light]`: how frames are exposed, of a source that does not say; and what the sensor is like.

    Attributes:
        exposure_s: the camera's exposure time in seconds, set fast in its driver.
        gain: the camera's gain as a factor, set fast in its driver; 1 where a full well is white.
        electrons_per_lux_s: electrons that a white surface under 1 lux gives a pixel in 1 s.
        full_well: electrons at which a pixel saturates.
        read_noise: standard deviation of reading, in electrons.
        reflectance: mean reflectance of the scene.
    """

    exposure_s: float
    gain: float
    electrons_per_lux_s: float = ImageSensor.electrons_per_lux_s
    full_well: float = ImageSensor.full_well
    read_noise: float = ImageSensor.read_noise
    reflectance: float = LightMeter.reflectance

    def meter(self) -> LightMeter:
        """The light meter that these numbers make.

        Raises:
            ValueError: names the number that does not fit.
        """
        if not self.exposure_s > 0.0:
            raise ValueError(f"exposure_s must be above 0, got {self.exposure_s:g}")
        return LightMeter(
            sensor=ImageSensor(
                electrons_per_lux_s=self.electrons_per_lux_s, full_well=self.full_well, read_noise=self.read_noise
            ),
            exposure=Exposure(seconds=self.exposure_s, gain=self.gain),
            reflectance=self.reflectance,
        )


class OutputTable(_Table):
    """`[output]`: what a run leaves. Folders are made where they are missing.

    Attributes:
        lines: file of JSON lines, one per frame; each run adds to it.
        database: SQLite file; each run adds to it.
        page: HTML page of the run, written when it ends.
    """

    lines: Path | None = None
    database: Path | None = None
    page: Path | None = None


class ConfigTable(_Table):
    """The whole file.

    Attributes:
        source: the table [source] with spec, where frames come from.
        engine: the table [engine] with bundle, the network that runs.
        policy: the table [policy] with file, who turns the dial.
    """

    source: SourceTable
    engine: EngineTable
    policy: PolicyTable
    power: PowerTable = PowerTable()
    temperature: TemperatureTable = TemperatureTable()
    light: LightTable | None = None
    output: OutputTable = OutputTable()


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraConfig:
    """A checked configuration. Relative paths begin in the file's folder.

    Attributes:
        path: the file.
        text: what it says.
        open_source: opens the source.
        stall_s: see `SourceTable`.
        engine: which bundle runs, where.
        policy: the policy that turns the dial.
        policy_settings: its file, and how often it decides.
        power: where battery and mains are read.
        temperature: where the board's temperature is read.
        light: how light is measured.
        output: what a run leaves.
    """

    path: Path
    text: str
    open_source: Callable[[], FrameSource]
    stall_s: float
    engine: EngineTable
    policy: Governed[Any]
    policy_settings: PolicyTable
    power: PowerTable
    temperature: TemperatureTable
    light: LightMeter
    output: OutputTable


def read_config(path: Path, *, source: str | None = None) -> CameraConfig:
    """Read a configuration and the policy it names.

    Args:
        path: the file.
        source: a source in place of the file's; a relative path begins in the working folder.

    Raises:
        ConfigError: either file is missing, is no TOML, or does not hold; with the line, key and a way out of each
            fault.
        SourceError: `source` is none.
    """
    opener = None if source is None else source_opener(source)
    file = TomlFile.read(path)
    table = file.validate(ConfigTable)
    folder = path.parent
    engine = table.engine.model_copy(update={"bundle": _path(folder, table.engine.bundle)})
    settings = table.policy.model_copy(update={"file": _path(folder, table.policy.file)})
    output = OutputTable(**{name: to and _path(folder, to) for name, to in table.output})
    faults = [*_path_faults(path, engine, settings, output)]
    if opener is None:
        try:
            opener = source_opener(table.source.spec, folder=folder)
        except SourceError as err:
            faults.append(Fault(("source", "spec"), str(err)))
    light = LightMeter()
    if table.light is not None:
        try:
            light = table.light.meter()
        except ValueError as err:
            faults.append(Fault(("light",), str(err)))
    file.fail(faults)
    assert opener is not None  # or there is a fault
    return CameraConfig(
        path=path,
        text=file.text,
        open_source=opener,
        stall_s=table.source.stall_s,
        engine=engine,
        policy=read_policy(settings.file),
        policy_settings=settings,
        power=table.power.model_copy(update={"root": _path(folder, table.power.root)}),
        temperature=table.temperature.model_copy(update={"root": _path(folder, table.temperature.root)}),
        light=light,
        output=output,
    )


def _path(folder: Path, path: Path) -> Path:
    return (folder / path.expanduser()).resolve()


def _path_faults(path: Path, engine: EngineTable, policy: PolicyTable, output: OutputTable) -> Iterator[Fault]:
    """Paths that lead nowhere, and outputs that would destroy something."""
    if not (engine.bundle / MANIFEST).is_file():
        yield Fault(("engine", "bundle"), f"{engine.bundle} is no bundle: it has no {MANIFEST}")
    if not policy.file.is_file():
        yield Fault(("policy", "file"), f"there is no file {policy.file}")
    taken = {path.resolve(): "this file itself", policy.file: "the policy file"}
    for name, to in output:
        if to is None:
            continue
        if to.is_dir():
            yield Fault(("output", name), f"{to} is a folder; name a file in it")
        if name == "page" and output.database is None:
            yield Fault(("output", name), "the page is drawn from the database; name a database too")
        if (other := taken.get(to)) is not None:
            yield Fault(("output", name), f"{to} is {other}; name another file")
        taken[to] = f"that of {name}"
