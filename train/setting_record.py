"""The setting of a record of figures, by which a run that goes on knows what it has."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, TypeVar

from tnn_edge.sim.simulation import Simulation
from tnn_edge.sim.traces import Traces
from train.record_file import Record
from train.setting import Setting

__all__ = ["SettingRecord", "digest_of", "setting_fields", "with_fresh"]


class SettingRecord(Record):
    """Where figures are of.

    Attributes:
        name: of the place.
        panel_w: rated power.
        battery_wh: usable energy.
        simulation: SHA-256 of the simulation file and the files that it names.
        days: length of a year.
        n_years: years played.
    """

    name: str
    panel_w: float
    battery_wh: float
    simulation: str
    days: float
    n_years: int

    @property
    def title(self) -> str:
        """Place, panel and battery."""
        return f"{self.name}, {self.panel_w:g} W, {self.battery_wh:g} Wh"

    def is_of(self, setting: Setting, n_years: int) -> bool:
        """Whether that setting was played, so many years of it, with the simulation file as it is."""
        mine = (self.title, self.simulation, self.n_years)
        return mine == (str(setting), digest_of(setting.simulation), n_years)


def setting_fields(setting: Setting, traces: Traces) -> dict[str, Any]:
    """The fields of `SettingRecord`."""
    return {
        "name": setting.name,
        "panel_w": setting.device.panel.rated_w,
        "battery_wh": setting.battery_wh,
        "simulation": digest_of(setting.simulation),
        "days": traces.n_steps * traces.step_s / 86_400.0,
        "n_years": len(traces),
    }


S = TypeVar("S", bound=SettingRecord)


def with_fresh(settings: Sequence[S], fresh: S) -> list[S]:
    """Records with one more, in place of what was known of the same setting, in order."""
    others = [each for each in settings if each.title != fresh.title]
    return sorted([*others, fresh], key=lambda each: (each.name, each.panel_w, each.battery_wh))


def digest_of(simulation: Simulation) -> str:
    """SHA-256 of a simulation file and the files that it names."""
    total = hashlib.sha256(simulation.text.encode())
    for path in simulation.files:
        total.update(path.read_bytes())
    return total.hexdigest()
