"""A camera as a user writes it: one TOML file, checked strictly, with the line of every fault."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tnn_edge.bundle.reading import MANIFEST
from tnn_edge.camera.config_tables import (
    ConfigTable,
    EngineTable,
    OutputTable,
    PolicyTable,
    PowerTable,
    TemperatureTable,
)
from tnn_edge.camera.database import files_of
from tnn_edge.camera.frame import FrameSource
from tnn_edge.camera.light_meter import LightMeter
from tnn_edge.camera.source import source_opener
from tnn_edge.control import Governed, read_policies
from tnn_edge.errors import SourceError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place
from tnn_edge.user_path import dead_end, missing, under

__all__ = ["CameraConfig", "read_config"]


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
    faults = [*_cross_faults(path, table)]
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
    (policy,) = read_policies(file, faults, {("policy", "file"): table.policy.file}).values()
    assert opener is not None  # or there is a fault
    return CameraConfig(
        path=path,
        text=file.text,
        open_source=opener,
        stall_s=table.source.stall_s,
        engine=table.engine.model_copy(update={"bundle": under(folder, table.engine.bundle)}),
        policy=policy,
        policy_settings=table.policy.model_copy(update={"file": under(folder, table.policy.file)}),
        power=table.power.model_copy(update={"root": under(folder, table.power.root)}),
        temperature=table.temperature.model_copy(update={"root": under(folder, table.temperature.root)}),
        light=light,
        output=table.output.model_copy(update={name: under(folder, to) for name, to in table.output.files.items()}),
    )


def _paths(table: ConfigTable) -> Iterator[tuple[Place, Path]]:
    yield ("engine", "bundle"), table.engine.bundle
    yield ("policy", "file"), table.policy.file
    yield ("power", "root"), table.power.root
    yield ("temperature", "root"), table.temperature.root
    yield from ((("output", name), to) for name, to in table.output.files.items())


def _cross_faults(path: Path, table: ConfigTable) -> Iterator[Fault]:
    """Paths that lead nowhere, outputs that would destroy something, and keys that exclude each other."""
    folder = path.parent
    must: dict[Place, Literal["file", "folder"]] = {("policy", "file"): "file", ("engine", "bundle"): "folder"}
    # The kernel's own folder may be missing on a machine without sensors; one that somebody wrote down must not.
    for name, sensors in (("power", table.power), ("temperature", table.temperature)):
        if "root" in sensors.model_fields_set:
            must[name, "root"] = "folder"
    found: dict[Place, Path] = {}
    for place, to in _paths(table):
        if told := missing(folder, to, must[place]) if place in must else _refused(folder, to):
            yield Fault(place, told)
        else:
            found[place] = under(folder, to)
    taken = {path.resolve(): "this file itself"}
    if (policy := found.get(("policy", "file"))) is not None:
        taken[policy.resolve()] = "the policy file"
    bundle = found.get(("engine", "bundle"))
    # Unlike Path.is_file it raises nothing where one may not look.
    if bundle is not None and not os.path.isfile(bundle / MANIFEST):  # noqa: PTH113
        yield Fault(("engine", "bundle"), f"{bundle} is no bundle: it has no {MANIFEST}")
        bundle = None
    if (table.engine.precision, table.engine.device) == ("int8", "cuda"):
        yield Fault(("engine", "precision"), 'int8 runs on the CPU only; say device = "cpu"')
    if table.output.page is not None and table.output.database is None:
        yield Fault(("output", "page"), "the page is drawn from the database; name a database too")
    outputs = {str(place[1]): to for place, to in found.items() if place[0] == "output"}
    yield from _output_faults(outputs, taken, bundle)


def _refused(folder: Path, path: Path) -> str | None:
    why = dead_end(folder, path)
    return why and f"leads nowhere ({why}); name another"


def _output_faults(outputs: dict[str, Path], taken: dict[Path, str], bundle: Path | None) -> Iterator[Fault]:
    for name, to in outputs.items():
        place = ("output", name)
        if to.is_dir():
            yield Fault(place, f"{to} is a folder; name a file in it")
        if bundle is not None and bundle.resolve() in to.resolve().parents:
            yield Fault(place, f"{to} lies in the bundle, which nothing may change; name another file")
        for file in files_of(to.resolve()) if name == "database" else (to.resolve(),):
            if (other := taken.get(file)) is not None:
                yield Fault(place, f"{file} is {other}; name another file")
            taken[file] = f"that of {name}"
