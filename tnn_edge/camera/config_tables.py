"""The tables of a camera's configuration: every key with its meaning, its default and its bounds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.device import Backend
from tnn_edge.plant import Exposure, ImageSensor

__all__ = [
    "ConfigTable",
    "EngineTable",
    "LightTable",
    "OutputTable",
    "PolicyTable",
    "PowerTable",
    "SourceTable",
    "TemperatureTable",
]


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
        precision: float32, or int8 on the CPU where the bundle has ranges for it.
        max_resident_mb: memory for operating points, in MB of 2^20 bytes; without it all are in memory. One that is not
            loads when it is asked for, and the nearest lower one answers meanwhile.
    """

    bundle: Path
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = Field(1, ge=1, le=256)
    precision: Literal["float32", "int8"] = "float32"
    max_resident_mb: float | None = Field(None, gt=0.0, le=1e9)


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
        commit_period_s: seconds between two commits to the database; a power cut takes no more.
    """

    lines: Path | None = None
    database: Path | None = None
    page: Path | None = None
    commit_period_s: Annotated[float, Field(gt=0.0, le=3600.0)] = 1.0

    @property
    def files(self) -> dict[str, Path]:
        """The files that are asked for, by key."""
        named = {name: getattr(self, name) for name in ("lines", "database", "page")}
        return {name: to for name, to in named.items() if to is not None}


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
