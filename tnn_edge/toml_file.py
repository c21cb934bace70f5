"""A TOML file that a user wrote: read, checked against a model, every fault told with file, line, key and a way out.

`tomllib` judges the text; where a fault must be placed, `tnn_edge.toml_lines` finds its line.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import ErrorDetails, core_schema

from tnn_edge.errors import ConfigError
from tnn_edge.toml_lines import BARE_KEY, Place, lines_of_keys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["Fault", "TomlFile"]

M = TypeVar("M", bound=BaseModel)

_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")
"""Pydantic's words for a key that a model, or a standard dataclass, does not have."""


@dataclass(frozen=True)
class Fault:
    """What is wrong in a file.

    Attributes:
        place: of the value or table. Where the message begins with a key of that table, the fault is that key's.
        message: what is wrong and the way out.
    """

    place: Place
    message: str


@dataclass(frozen=True)
class TomlFile:
    """A file that is valid TOML.

    Attributes:
        path: where it lies.
        text: what it says.
        data: the same, parsed.
    """

    path: Path
    text: str
    data: dict[str, Any]

    @classmethod
    def read(cls, path: Path) -> TomlFile:
        """Read a file.

        Raises:
            ConfigError: it cannot be read, or is no TOML.
        """
        try:
            raw = path.read_bytes()
        except OSError as err:
            raise ConfigError(f"cannot read {path}: {err.strerror}") from err
        try:
            text = raw.decode()
        except UnicodeDecodeError as err:
            line = raw.count(b"\n", 0, err.start) + 1
            raise ConfigError(f"{path}:{line}: not UTF-8 text: byte 0x{raw[err.start]:02x}") from err
        try:
            return cls(path, text, tomllib.loads(text))
        except (ValueError, RecursionError) as err:  # ValueError: also an integer of thousands of digits
            raise ConfigError(_syntax_fault(path, text, str(err))) from err

    def validate(self, model: type[M]) -> M:
        """Fit the file to a model, strictly: text is no number, and true is not 1.

        Args:
            model: should forbid extra keys. Its tables may be models or standard dataclasses.

        Raises:
            ConfigError: names every fault.
        """
        try:
            # As JSON, which has TOML's types: pydantic then is strict and still takes an array for a tuple, text for
            # a path, a table for a dataclass.
            return model.model_validate_json(json.dumps(self.data, default=str), strict=True)
        except RecursionError as err:
            raise ConfigError(f"{self.path}: nested too deeply") from err
        except ValidationError as err:
            if err.errors()[0]["type"] == "json_invalid":  # pydantic's reader counts the levels
                raise ConfigError(f"{self.path}: nested too deeply") from err
            schema = model.model_json_schema(schema_generator=_DocumentedSchema)
            faults = [self._fault(details, schema) for details in err.errors(include_url=False)]
            raise ConfigError(self._message(faults)) from err

    def fail(self, faults: Iterable[Fault]) -> None:
        """Refuse the file.

        Raises:
            ConfigError: names every fault; if there is none, nothing is raised.
        """
        if found := list(faults):
            raise ConfigError(self._message(found))

    def _message(self, faults: list[Fault]) -> str:
        """One line a fault, in the order of the file: `path:line: key: message`."""
        lines = lines_of_keys(self.text)
        rows: list[tuple[int, str]] = []
        for fault in faults:
            place = self._owner(fault)
            line = next(lines[place[:n]] for n in range(len(place), -1, -1) if place[:n] in lines)
            key = f"{_dotted(place)}: " if place else ""
            rows.append((line, f"{self.path}:{line}: {key}{fault.message}"))
        return "\n".join(text for _, text in sorted(rows, key=lambda row: row[0]))

    def _owner(self, fault: Fault) -> Place:
        try:
            table = _value_at(self.data, fault.place)
        except (LookupError, TypeError):  # the key that is missing, a table that is none
            return fault.place
        word = re.match(r"\w+", fault.message)
        return (*fault.place, word[0]) if word and isinstance(table, dict) and word[0] in table else fault.place

    def _fault(self, details: ErrorDetails, schema: dict[str, Any]) -> Fault:
        """What pydantic found, in our words."""
        kind, place = details["type"], self._place(details["loc"], details["type"])
        context = details.get("ctx", {})
        if kind in _UNKNOWN_KEY:
            known = [name for table in _tables_at(schema, place[:-1]) for name in table["properties"]]
            return Fault(place, f"unknown key; {_suggestion(str(place[-1]), known)}")
        if kind == "missing":
            about = [_about(table, str(place[-1])) for table in _tables_at(schema, place[:-1])]
            return Fault(place, f"missing{next((f': {text}' for text in about if text), '')}")
        if kind == "value_error":
            return Fault(place, str(context["error"]))
        message = details["msg"].replace("Input should be", "must be").replace("an object", "a table")
        message = f"{message}, got {_short(details['input'])}"
        if kind == "literal_error":
            choices = re.findall(r"'([^']*)'", str(context["expected"]))
            if close := difflib.get_close_matches(str(details["input"]), choices, n=1):
                message = f"{message}; did you mean {close[0]}?"
        return Fault(place, message)

    def _place(self, loc: Place, kind: str) -> Place:
        """A place in the file, of a place in pydantic's words, which has members of unions in between."""
        value: Any = self.data
        place: list[str | int] = []
        tail = loc[-1:] if kind == "missing" or kind in _UNKNOWN_KEY else ()  # a key, whether it is there or not
        for part in loc[: len(loc) - len(tail)]:
            try:
                value = value[part]
            except (LookupError, TypeError):
                continue
            place.append(part)
        return (*place, *tail)


class _DocumentedSchema(GenerateJsonSchema):
    """A JSON schema that describes standard dataclasses too; pydantic 2.7 leaves their docstrings out."""

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return {"description": inspect.getdoc(schema["cls"]), **super().dataclass_schema(schema)}


def _value_at(data: Any, place: Place) -> Any:
    for part in place:
        data = data[part]
    return data


def _tables_at(schema: dict[str, Any], place: Place) -> list[dict[str, Any]]:
    """The tables of a JSON schema that may stand at a place; more than one where there is a choice."""
    found = list(_choices(schema, schema))
    for part in place:
        parts = [s.get("items", {}) if isinstance(part, int) else s.get("properties", {}).get(part, {}) for s in found]
        found = [choice for s in parts for choice in _choices(s, schema)]
    return [s for s in found if "properties" in s]


def _choices(part: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "$ref" in part:
        part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    options = [option for key in ("anyOf", "oneOf", "allOf") for option in part.get(key, ())]
    if not options:
        yield part
    for option in options:
        yield from _choices(option, schema)


def _about(table: dict[str, Any], key: str) -> str:
    """What the docstring of a table's class says of one of its attributes; empty where it says nothing."""
    found = re.search(rf"^    {re.escape(key)}: (.+(?:\n {{8}}.+)*)", table.get("description") or "", re.MULTILINE)
    return re.sub(r"\s+", " ", found[1]).rstrip(".") if found else ""


def _suggestion(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    return f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"


def _dotted(place: Place) -> str:
    text = "".join(
        f"[{part}]" if isinstance(part, int) else f".{part if re.fullmatch(BARE_KEY, part) else _short(part)}"
        for part in place
    )
    return text.removeprefix(".")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _syntax_fault(path: Path, text: str, message: str) -> str:
    """The parser's words, with the line they are about."""
    found = re.fullmatch(r"(.*) \(at (?:line (\d+), column (\d+)|end of document)\)", message, re.DOTALL)
    if found is None:
        return f"{path}: not valid TOML: {message}"
    lines = text.split("\n")
    line = int(found[2] or len(text.rstrip().split("\n")))
    column = f", column {found[3]}" if found[3] else ""
    return f"{path}:{line}: {lines[line - 1].strip()}: not valid TOML{column}: {found[1]}"
