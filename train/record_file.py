"""Figures that take long to work out, in JSON files that are checked when they are read and whole when written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tnn_edge.errors import InputError
from tnn_edge.whole_file import write_whole

__all__ = ["Floats", "Record", "read_record", "rounded", "write_record"]

Floats: TypeAlias = Annotated[list[float], Field(min_length=1)]
"""A figure for each year."""


class Record(BaseModel):
    """A table of figures: no key that is not known, no number that is none."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


R = TypeVar("R", bound=Record)


def read_record(path: Path, kind: type[R]) -> R:
    """Read figures.

    Raises:
        InputError: the file cannot be read, or holds something else.
    """
    name = kind.__name__.lower()
    try:
        return kind.model_validate_json(path.read_bytes())
    except OSError as err:
        raise InputError(f"cannot read {path}: {err.strerror}") from err
    except ValidationError as err:
        first = err.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise InputError(f"{path} is no {name}: {place or 'the file'}: {first['msg']}; name another file") from err


def write_record(path: Path, record: Record) -> None:
    """Write figures whole: one line for each list of numbers.

    Raises:
        TnnEdgeError: the file could not be written.
    """
    write_whole(path, (_json(record.model_dump()) + "\n").encode(), "JSON file")


def rounded(values: npt.ArrayLike) -> list[float]:
    """Numbers to seven digits, which is more than they are worth."""
    return [float(f"{value:.7g}") for value in np.asarray(values, np.float64)]


def _json(value: object, indent: str = "") -> str:
    if isinstance(value, dict):
        inner = f"{indent} "
        return _block("{}", [f"{inner}{json.dumps(key)}: {_json(each, inner)}" for key, each in value.items()], indent)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        inner = f"{indent} "
        return _block("[]", [f"{inner}{_json(each, inner)}" for each in value], indent)
    return json.dumps(value)


def _block(brackets: str, lines: list[str], indent: str) -> str:
    if not lines:
        return brackets
    return f"{brackets[0]}\n" + ",\n".join(lines) + f"\n{indent}{brackets[1]}"
