"""The policies that another file of the user's names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tnn_edge.control.governor import Governed
from tnn_edge.control.policy_file import read_policy
from tnn_edge.errors import ConfigError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place
from tnn_edge.user_path import under

__all__ = ["read_policies"]


def read_policies(file: TomlFile, faults: Iterable[Fault], named: Mapping[Place, Path]) -> dict[Place, Governed[Any]]:
    """Read policies, if neither the file that names them nor any of theirs has a fault.

    Args:
        file: names them.
        faults: what is wrong in it; a policy file whose place is among them is not looked for.
        named: where in the file each policy file is named, and how; relative paths begin in the file's folder.

    Raises:
        ConfigError: names every fault of all files.
    """
    found = list(faults)
    places = {fault.place for fault in found}
    told: list[str] = []
    try:
        file.fail(found)
    except ConfigError as err:
        told.append(str(err))
    policies: dict[Place, Governed[Any]] = {}
    for place, path in named.items():
        if place not in places:
            try:
                policies[place] = read_policy(under(file.path.parent, path))
            except ConfigError as err:
                told.append(str(err))
    if told:
        raise ConfigError("\n".join(dict.fromkeys(told)))  # two places may name one file
    return policies
