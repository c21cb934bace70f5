"""What policies are played in: a place, a panel and a battery, with years that are kept for tests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tnn_edge.control import Governed, read_policy
from tnn_edge.errors import InputError
from tnn_edge.sim.camera_device import CameraDevice
from tnn_edge.sim.simulation import Simulation, read_simulation
from train.tunable import Place, at_place

__all__ = ["BATTERIES_WH", "TUNED", "PolicyFile", "Setting", "policy_files", "read_settings"]

TUNED = Path(__file__).parent / "tuned"
"""Policies that `train.tune` found, for each of `BATTERIES_WH`."""

BATTERIES_WH = (40.0, 120.0, 300.0)
"""Usable energies of the batteries that policies are compared with."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Setting:
    """Attributes: name: of the place, as its file is called; simulation: of it; device: with this battery."""

    name: str
    simulation: Simulation
    device: CameraDevice

    @property
    def battery_wh(self) -> float:
        """Usable energy."""
        return self.device.board.battery.usable_wh

    def __str__(self) -> str:
        return f"{self.name}, {self.device.panel.rated_w:g} W, {self.battery_wh:g} Wh"


@dataclass(frozen=True, eq=False, kw_only=True)
class PolicyFile:
    """Attributes: name: as the file is called; sha256: of what it says; policy: as it is for the setting."""

    name: str
    sha256: str
    policy: Governed[Any]


def read_settings(
    simulations: Sequence[Path], batteries_wh: Sequence[float], *, period_s: float | None = None
) -> list[Setting]:
    """Every simulation with every battery; with its own where none is named.

    Args:
        simulations: files.
        batteries_wh: usable energies.
        period_s: time between two decisions, None for what each file says.

    Raises:
        ConfigError: a simulation does not hold.
        InputError: two simulations have one name.
    """
    settings: list[Setting] = []
    for path in simulations:
        if any(setting.name == path.stem for setting in settings):
            raise InputError(f"two simulations are called {path.stem!r}; rename one of the files")
        read = read_simulation(path)
        if period_s is not None:
            read = replace(read, period_s=period_s)
        devices = [read.device.with_battery(wh) for wh in batteries_wh] or [read.device]
        settings += [Setting(name=path.stem, simulation=read, device=device) for device in devices]
    return settings


def policy_files(folder: Path, setting: Setting) -> Mapping[str, PolicyFile]:
    """The policies of a folder for a setting: its *.toml, in FOLDER/120wh where that is there for a battery of 120 Wh.

    Device and place in them become those of the setting; what was tuned stays.

    Raises:
        ConfigError: a policy does not hold.
        InputError: there is none.
    """
    own = folder / f"{setting.battery_wh:g}wh"
    paths = sorted((own if own.is_dir() else folder).glob("*.toml"))
    if not paths:
        raise InputError(f"{folder} holds no policy for {setting}: neither *.toml nor {own.name}/*.toml")
    place = Place.of(setting.simulation)
    return {
        path.stem: PolicyFile(
            name=path.stem,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            policy=at_place(read_policy(path), setting.device, place),
        )
        for path in paths
    }
