"""TOML texts with one thing made wrong at random, and where the fault then lies."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from tnn_edge.errors import ConfigError

__all__ = ["MUTATIONS", "Mutation", "is_refused_rightly"]

Mutation = tuple[str, int | None, str]
"""The mutated text, the line at fault (None where several could be blamed), and what its error must name."""


def code_of(line: str) -> str:
    """A line without its comment; no example has a # in a string."""
    return line.partition("#")[0]


def lines_with(text: str, pattern: str) -> list[int]:
    return [i for i, line in enumerate(text.split("\n")) if re.search(pattern, code_of(line))]


def replaced(text: str, i: int, line: str) -> str:
    lines = text.split("\n")
    lines[i] = line
    return "\n".join(lines)


def misspelt_key(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"\w+ *="))
    line = text.split("\n")[i]
    found = rng.choice(list(re.finditer(r"(\w+) *=", code_of(line))))
    key = found[1]
    at = rng.randrange(len(key))
    wrong = key[:at] + key[at] + key[at:]  # a letter doubled
    return replaced(text, i, line[: found.start(1)] + wrong + line[found.end(1) :]), i + 1, f"{wrong}: unknown key"


def misspelt_table(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"^\["))
    line = text.split("\n")[i]
    wrong = line.replace("]", "x]", 1)
    name = wrong.strip("[] ").partition("]")[0]
    return replaced(text, i, wrong), i + 1, f"{name}"


def wrong_type(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"^\w+ *= "))
    line = text.split("\n")[i]
    key = line.partition("=")[0].strip()
    old = line.partition("=")[2].strip()
    others = {'"': ["7", "true", "{}"], "[": ['"x"', "7", "{}"], "t": ['"x"', "1", "nan"], "f": ['"x"', "0", "[]"]}
    value = rng.choice(others.get(old[0], ['"x"', "1979-05-27", "[]", "nan"]))
    return replaced(text, i, f"{key} = {value}"), i + 1, key


def out_of_range(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"= .*(?<=[ \[])\d"))
    line = text.split("\n")[i]
    key = line.partition("=")[0].strip()
    found = rng.choice(list(re.finditer(r"(?<=[ \[])\d+(\.\d+)?", code_of(line))))
    return replaced(text, i, line[: found.start()] + "-1e9" + line[found.end() :]), i + 1, key


def deleted_line(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"\S"))
    lines = text.split("\n")
    return "\n".join(lines[:i] + lines[i + 1 :]), None, ""


def duplicated_line(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"\S"))
    lines = text.split("\n")
    # An array takes a second table, but the first of the two then is empty.
    line = i + 1 if lines[i].startswith("[[") else i + 2
    key = "missing" if lines[i].startswith("[[") else lines[i].partition("#")[0].strip()
    return "\n".join([*lines[: i + 1], lines[i], *lines[i + 1 :]]), line, key


def broken_syntax(text: str, rng: random.Random) -> Mutation:
    i = rng.choice(lines_with(text, r"^\w+ *= "))
    line = code_of(text.split("\n")[i]).rstrip()
    broken = rng.choice(
        [line.replace("=", " ", 1), line + " }", line.replace("=", "= =", 1), line.replace("= ", "= oops ")]
    )
    return replaced(text, i, broken), i + 1, broken.strip()


MUTATIONS = [misspelt_key, misspelt_table, wrong_type, out_of_range, deleted_line, duplicated_line, broken_syntax]


def is_refused_rightly(read: Callable[[Path], object], path: Path, mutation: Mutation) -> bool:
    """Whether a mutated file is refused; if it is, every error must name file, line and key, and the fault be there."""
    text, line, named = mutation
    path.write_text(text)
    n_lines = text.count("\n") + 1
    try:
        read(path)
    except ConfigError as err:
        rows = str(err).split("\n")
        found = [re.fullmatch(rf"{re.escape(str(path))}:(\d+): (.+)", row) for row in rows]
        assert all(found), rows
        assert all(1 <= int(each[1]) <= n_lines for each in found if each), rows
        if line is not None:
            assert any(int(each[1]) == line and named in each[2] for each in found if each), (line, named, rows)
        return True
    assert line is None, mutation  # a line that was not needed
    return False
