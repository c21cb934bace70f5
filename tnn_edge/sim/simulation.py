"""A simulation as a user writes it down: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tnn_edge.control import REFERENCE, read_profile, reference_profile
from tnn_edge.errors import InputError
from tnn_edge.plant import PoweredBoard
from tnn_edge.sim import core
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.climate import N_DAYS, SITES, Climate, read_climate
from tnn_edge.sim.drawing import Surroundings, draw_traces
from tnn_edge.sim.simulation_tables import FleetTable, SimulationTable, SunlightTable
from tnn_edge.sim.trace_csv import read_trace_csv
from tnn_edge.sim.traces import Traces
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.user_path import missing, under

__all__ = ["Simulation", "read_simulation"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Simulation:
    """A device, its place and its fleet.

    Attributes:
        path: the file it was read from.
        text: what the file says.
        device: what is simulated.
        profile: the file of its profile, None for the reference.
        climate: of the site, None where the sun is of the user's own file.
        sunlight: that file and its place, None where there is a site.
        surroundings: lamps, haze and work.
        seed: of the first year.
        first_day: of the year.
        start_soc: at the start.
        period_s: between two decisions.
        fleet: how devices differ.
    """

    path: Path
    text: str
    device: CameraDevice
    profile: Path | None
    climate: Climate | None
    sunlight: SunlightTable | None
    surroundings: Surroundings
    seed: int
    first_day: int
    start_soc: float
    period_s: float
    fleet: FleetTable

    @property
    def files(self) -> list[Path]:
        """The files that it was read from besides its own."""
        own = [] if self.profile is None else [self.profile]
        return own if self.sunlight is None else [*own, under(self.path.parent, Path(self.sunlight.csv))]

    def site(self) -> Climate:
        """The site.

        Raises:
            InputError: there is none, because the sun is of the user's own file.
        """
        if self.climate is None:
            raise InputError(f"{self.path}: this needs years of weather: name a site in place of [sunlight]")
        return self.climate

    def traces(self, *, n_days: int | None, n_years: int) -> Traces:
        """Weather and work; the first are the same however many there are.

        Of a site they are drawn from the days kept for tests.

        Args:
            n_days: length; None for a year, or for all of the user's own file.
            n_years: how many; of the user's own file the weather is always the same.

        Raises:
            InputError: the user's own file has a fault, or fewer days.
        """
        seeds = range(self.seed, self.seed + n_years)
        if self.sunlight is None:
            return draw_traces(
                self.site(),
                "test",
                seeds,
                n_days=N_DAYS if n_days is None else n_days,
                first_day=self.first_day,
                step_s=self.period_s,
                surroundings=self.surroundings,
            )
        place = self.sunlight.model_dump()
        path = under(self.path.parent, Path(place.pop("csv")))
        traces, report = read_trace_csv(
            path, seeds=seeds, step_s=self.period_s, surroundings=self.surroundings, **place
        )
        if n_days is not None and n_days > report.n_days:
            raise InputError(f"{path} holds {report.n_days} whole days, fewer than the {n_days} that are asked for")
        return traces if n_days is None else traces.first_days(n_days)

    def parameters(self, n_devices: int) -> Floats:
        """The numbers of each device for the core; the first is the one in the file, the others differ from it."""
        rng = np.random.Generator(np.random.Philox(self.seed))
        parameters = core.parameters_of(self.device, n_devices, step_s=self.period_s)
        for column, spread in (
            (core.RATED_W, self.fleet.panel_spread),
            (core.USABLE_WH, self.fleet.battery_spread),
            (core.IDLE_W, self.fleet.idle_spread),
        ):
            factor = np.clip(1.0 + spread * rng.standard_normal(n_devices), 0.1, 1.9)
            parameters[1:, column] *= factor[1:]
        # A smaller battery still gives what booting takes between its thresholds, or the device never started.
        most_wh = (parameters[:, core.REBOOT] - parameters[:, core.CUT_OFF]) * parameters[:, core.USABLE_WH]
        parameters[:, core.BOOT] = np.minimum(
            parameters[:, core.BOOT], most_wh * parameters[:, core.DISCHARGE_EFFICIENCY]
        )
        return parameters


def read_simulation(path: Path) -> Simulation:
    """Read a simulation.

    Raises:
        ConfigError: the file is missing, is no TOML, or does not hold; with the line, key and a way out of each fault.
    """
    file = TomlFile.read(path)
    table = file.validate(SimulationTable)
    file.fail(_faults(table, path.parent))
    name = table.network.profile
    profile = None if name == REFERENCE else under(path.parent, Path(name))
    device = CameraDevice(
        profile=reference_profile() if profile is None else read_profile(profile),
        board=PoweredBoard(
            battery=table.battery, converter=table.converter, thermal=table.thermal, throttle=table.throttle
        ),
        panel=table.panel,
        workload=table.workload,
        brown_out_cost_events=table.network.brown_out_cost_events,
    )
    return Simulation(
        path=path,
        text=file.text,
        device=device,
        profile=profile,
        climate=None if table.site is None else read_climate(table.site),
        sunlight=table.sunlight,
        surroundings=Surroundings(events=table.events, clouds=table.clouds, **table.scene.model_dump()),
        seed=table.seed,
        first_day=table.first_day,
        start_soc=table.start_soc,
        period_s=table.period_s,
        fleet=table.fleet,
    )


def _faults(table: SimulationTable, folder: Path) -> Iterator[Fault]:
    """What is wrong between tables that are sound one by one."""
    if table.site is not None and table.site not in SITES:
        yield Fault(("site",), f"no site is called {table.site!r}; there are {', '.join(SITES)}")
    if table.sunlight is not None and (told := missing(folder, Path(table.sunlight.csv), "file")):
        yield Fault(("sunlight", "csv"), told)
    if abs(3600.0 / table.period_s - round(3600.0 / table.period_s)) > 1e-9:
        yield Fault(("period_s",), f"must divide an hour of 3600 s, got {table.period_s:g}; say 900")
    if (name := table.network.profile) != REFERENCE and (told := missing(folder, Path(name), "file")):
        yield Fault(("network", "profile"), f'{told}; "{REFERENCE}" is the built-in profile')
