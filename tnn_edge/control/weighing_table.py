"""Tables of policies that weigh accuracy against power: they name a device profile, which lies in a file of its own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from tnn_edge.control.device_profile import REFERENCE, DeviceProfile, read_profile, reference_profile
from tnn_edge.errors import ConfigError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place
from tnn_edge.user_path import missing, under

__all__ = ["policy_with_profile", "table_with_profile"]


def table_with_profile(policy: type[Any]) -> type[BaseModel]:
    """The settings of a policy as they stand in a file: in place of the profile its name.

    Args:
        policy: a dataclass of numbers and a `profile`.
    """
    kinds = get_type_hints(policy)
    settings: dict[str, Any] = {
        each.name: (kinds[each.name], ... if each.default is dataclasses.MISSING else each.default)
        for each in dataclasses.fields(policy)
    }
    strict = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    table: type[BaseModel] = create_model(
        policy.__name__, __config__=strict, **settings | {"profile": (str, REFERENCE)}
    )
    table.__doc__ = policy.__doc__  # whence a missing key is explained
    return table


def policy_with_profile(file: TomlFile, kind: str, policy: type[Any], table: BaseModel) -> Any:
    """The policy of a table.

    Args:
        file: in which the table stands; a relative path to a profile begins in its folder.
        kind: name of the table.
        policy: what to make.
        table: of `table_with_profile`.

    Raises:
        ConfigError: a setting is out of its range, or the profile is missing or does not hold.
    """
    faults: list[Fault] = []
    settings = table.model_dump()
    profile = _profile(file, (kind, "profile"), settings.pop("profile"), faults)
    made = None
    try:
        made = policy(**settings, profile=profile or reference_profile())
    except ValueError as err:
        faults.append(Fault((kind,), str(err)))
    file.fail(faults)
    return made


def _profile(file: TomlFile, place: Place, name: str, faults: list[Fault]) -> DeviceProfile | None:
    """The profile that a file names; what is wrong with it is added to `faults`."""
    if name == REFERENCE:
        return reference_profile()
    folder = file.path.parent
    if told := missing(folder, Path(name), "file"):
        faults.append(Fault(place, f'{told}; "{REFERENCE}" is the built-in profile'))
        return None
    try:
        return read_profile(under(folder, Path(name)))
    except ConfigError as err:
        faults += [Fault(place, row) for row in str(err).split("\n")]
        return None
