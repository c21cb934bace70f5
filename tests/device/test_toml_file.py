"""TOML files: the line of every key, and every fault told with file, line, key and a way out."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag

from tnn_edge.errors import ConfigError
from tnn_edge.toml_file import Fault, TomlFile
from tnn_edge.toml_lines import Place, lines_of_keys

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[2]


# The line of every key -----------------------------------------------------------------------------------------------

EVERY_FORM = '''\
# a comment with [brackets] and key = "value"
top = 1
text = """
[not.a.table]
key = "not a key"
five quotes: """""
dotted.a.b = 1; dotted.a.c = 2
"quoted.key" = 'C:\\'   # a literal string ends here

[table]
list = [ 1, # one ]
  [2, 3],
  { x = 1, y = { z = "}" } },
]
when = 1979-05-27 07:32:00
[table.child]
k = -1.5e3

[[rows]]
name = "a"
[rows.sub]
deep = true
[[rows]]
[[rows.inner]]
[[rows.inner]]
x = 1
[a.b.c]
[a]
y = 1
'''.replace("; ", "\n")


def test_the_line_of_every_form_of_key() -> None:
    assert lines_of_keys(EVERY_FORM) == {
        (): 1,
        ("top",): 2,
        ("text",): 3,
        ("dotted",): 7,
        ("dotted", "a"): 7,
        ("dotted", "a", "b"): 7,
        ("dotted", "a", "c"): 8,
        ("quoted.key",): 9,
        ("table",): 11,
        ("table", "list"): 12,
        ("table", "list", 0): 12,
        ("table", "list", 1): 13,
        ("table", "list", 1, 0): 13,
        ("table", "list", 1, 1): 13,
        ("table", "list", 2): 14,
        ("table", "list", 2, "x"): 14,
        ("table", "list", 2, "y"): 14,
        ("table", "list", 2, "y", "z"): 14,
        ("table", "when"): 16,
        ("table", "child"): 17,
        ("table", "child", "k"): 18,
        ("rows",): 20,
        ("rows", 0): 20,
        ("rows", 0, "name"): 21,
        ("rows", 0, "sub"): 22,
        ("rows", 0, "sub", "deep"): 23,
        ("rows", 1): 24,
        ("rows", 1, "inner"): 25,
        ("rows", 1, "inner", 0): 25,
        ("rows", 1, "inner", 1): 26,
        ("rows", 1, "inner", 1, "x"): 27,
        ("a",): 29,  # where it is declared, not where it is first implied
        ("a", "b"): 28,
        ("a", "b", "c"): 28,
        ("a", "y"): 30,
    }


def test_windows_line_ends_count_once() -> None:
    text = EVERY_FORM.replace("\n", "\r\n")
    assert lines_of_keys(text) == lines_of_keys(EVERY_FORM)


def places(value: Any, place: Place = ()) -> Iterator[Place]:
    """Every place of parsed data."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for part, inner in items:
        yield from places(inner, (*place, part))


@pytest.mark.parametrize("text", [EVERY_FORM, (REPOSITORY / "pyproject.toml").read_text()], ids=["forms", "pyproject"])
def test_every_place_of_the_parsed_data_has_a_line_and_no_other_has(text: str) -> None:
    assert set(lines_of_keys(text)) == set(places(tomllib.loads(text)))


class Writer:
    """Writes data as TOML, in forms that are drawn, and notes the line of every place."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.text = ""
        self.lines: dict[Place, int] = {(): 1}

    def note(self, place: Place) -> None:
        self.lines.setdefault(place, self.text.count("\n") + 1)

    def space(self) -> None:
        self.text += self.draw(st.sampled_from(["", "", "\n", "# [x] y = 'z'\n", "  \n"]))

    def table(self, place: Place, header: str, data: dict[str, Any]) -> None:
        later = []
        for key, value in data.items():
            inner = (*place, key)
            self.space()
            if isinstance(value, dict) and value and self.draw(st.booleans()):
                self.dotted(inner, key_text(key), value)
            elif self.can_be_later(value) and self.draw(st.booleans()):
                later.append((key, value))
            else:
                self.note(inner)
                self.text += f"{key_text(key)} = "
                self.value(inner, value)
                self.text += "\n"
        for key, value in later:
            name = f"{header}.{key_text(key)}".lstrip(".")
            for i, element in enumerate(value if isinstance(value, list) else [value]):
                self.space()
                self.note((*place, key))
                inner = (*place, key, i) if isinstance(value, list) else (*place, key)
                self.note(inner)
                self.text += f"[[{name}]] # x\n" if isinstance(value, list) else f"[ {name} ]\n"
                self.table(inner, name, element)

    @staticmethod
    def can_be_later(value: Any) -> bool:
        return isinstance(value, dict) or (
            isinstance(value, list) and bool(value) and all(isinstance(element, dict) for element in value)
        )

    def dotted(self, place: Place, name: str, data: dict[str, Any]) -> None:
        self.note(place)
        for key, value in data.items():
            self.note((*place, key))
            self.text += f"{name} . {key_text(key)} = "
            self.value((*place, key), value)
            self.text += "\n"

    def value(self, place: Place, value: Any) -> None:
        if isinstance(value, dict):
            self.text += "{"
            for i, (key, inner) in enumerate(value.items()):
                self.text += ", " if i else " "
                self.note((*place, key))
                self.text += f"{key_text(key)} = "
                self.value((*place, key), inner)
            self.text += "}"
        elif isinstance(value, list):
            self.text += "["
            for i, inner in enumerate(value):
                self.text += self.draw(st.sampled_from(["", "\n", " # ]\n"]))
                self.note((*place, i))
                self.value((*place, i), inner)
                self.text += ","
            self.text += "\n]"
        elif isinstance(value, str) and self.draw(st.booleans()):
            self.text += '"""\n' + json.dumps(value, ensure_ascii=False)[1:-1].replace("\\n", "\n") + '"""'
        else:
            self.text += json.dumps(value, ensure_ascii=False)


def key_text(key: str) -> str:
    return key if key.replace("_", "").isalnum() and key.isascii() else json.dumps(key, ensure_ascii=False)


keys = st.text("ab_.é \"'#[=\\", min_size=1, max_size=3)
scalars = st.integers(-9, 9) | st.booleans() | st.floats(-2, 2) | st.text("a\"'#]}=,\n\\ ", max_size=6)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3))


@given(st.data())
def test_lines_are_those_at_which_a_writer_wrote(data: st.DataObject) -> None:
    content = data.draw(st.dictionaries(keys, values, max_size=4))
    writer = Writer(data.draw)
    writer.table((), "", content)
    assert tomllib.loads(writer.text) == content
    assert lines_of_keys(writer.text) == writer.lines


# Faults --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A standard dataclass with cross-checks of its own.

    Attributes:
        peak_w: power in full sun,
            over all cells.
        loss: share that is lost.
    """

    peak_w: float
    loss: float = 0.1

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss < 1.0:
            raise ValueError(f"loss must lie in [0, 1), got {self.loss:g}")


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class Ramp(Strict):
    points: list[tuple[float, float]]


class Camera(Strict):
    source: Path
    mode: Literal["newest", "every"] = "newest"
    u: Annotated[
        Annotated[float, Tag("number")] | Annotated[Ramp, Tag("ramp")],
        Discriminator(lambda value: "ramp" if isinstance(value, dict) else "number"),
    ] = 0.5


class Config(Strict):
    name: str
    period_s: float = Field(1.0, gt=0.0)
    panel: Panel | None = None
    cameras: list[Camera] = []


@pytest.fixture
def refused(tmp_path: Path) -> Any:
    """The lines of the error about a text, each without the path that must be in front."""

    def lines(text: str) -> list[str]:
        path = tmp_path / "camera.toml"
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            TomlFile.read(path).validate(Config)
        rows = str(caught.value).split("\n")
        assert all(row.startswith(f"{path}:") for row in rows)
        return [row.removeprefix(f"{path}:") for row in rows]

    return lines


def test_a_file_that_holds_becomes_the_model(tmp_path: Path) -> None:
    path = tmp_path / "camera.toml"
    path.write_text(
        'name = "pole"\nperiod_s = 2\npanel = { peak_w = 40 }\n[[cameras]]\nsource = "/dev/video0"\n'
        "u = { points = [[0, 1], [1, 0.5]] }\n"
    )
    config = TomlFile.read(path).validate(Config)
    assert (config.name, config.period_s, config.panel) == ("pole", 2.0, Panel(peak_w=40.0))
    (camera,) = config.cameras
    assert (camera.source, camera.mode) == (Path("/dev/video0"), "newest")
    assert camera.u == Ramp(points=[(0.0, 1.0), (1.0, 0.5)])


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('name = "x"\nperiods = 2\n', "2: periods: unknown key; did you mean period_s?"),
        ('name = "x"\nzzz = 2\n', "2: zzz: unknown key; there are name, period_s, panel, cameras"),
        ('name = "x"\n[panel]\npeak_w = 1\nlos = 2\n', "4: panel.los: unknown key; did you mean loss?"),
        (
            'name = "x"\n[[cameras]]\nsource = "a"\n[[cameras]]\nsource = "b"\nu = { point = [] , points = [] }\n',
            "6: cameras[1].u.point: unknown key; did you mean points?",
        ),
        ("# nothing\n", "1: name: missing"),
        ('name = "x"\n\n[panel]\n', "3: panel.peak_w: missing: power in full sun, over all cells"),
        ('name = "x"\n[[cameras]]\nsource = "a"\nu = {}\n', "4: cameras[0].u.points: missing"),
        ('name = "x"\nperiod_s = "2"\n', '2: period_s: must be a valid number, got "2"'),
        ('name = "x"\nperiod_s = true\n', "2: period_s: must be a valid number, got true"),
        ('name = "x"\nperiod_s = 0\n', "2: period_s: must be greater than 0, got 0"),
        ('name = "x"\nperiod_s = nan\n', "2: period_s: must be a finite number, got NaN"),
        ("name = 7\n", "1: name: must be a valid string, got 7"),
        ('name = "x"\npanel = 3\n', "2: panel: must be a table, got 3"),
        ('name = "x"\n[panel]\npeak_w = 1\nloss = 2\n', "4: panel.loss: loss must lie in [0, 1), got 2"),
        (
            'name = "x"\n[[cameras]]\nsource = "a"\nmode = "newst"\n',
            "4: cameras[0].mode: must be 'newest' or 'every', got \"newst\"; did you mean newest?",
        ),
        ('name = "x"\n[[cameras]]\nsource = "a"\nu = "b"\n', '4: cameras[0].u: must be a valid number, got "b"'),
        (
            'name = "x"\n[[cameras]]\nsource = "a"\nu = { points = [\n[0, 1],\n[0, "b"],\n] }\n',
            '6: cameras[0].u.points[1][1]: must be a valid number, got "b"',
        ),
        ('name = "x"\n"na\\nme" = 1\n', '2: "na\\nme": unknown key; did you mean name?'),
    ],
)
def test_a_fault_is_told_with_line_key_and_a_way_out(refused: Any, text: str, fault: str) -> None:
    assert refused(text) == [fault]


def test_all_faults_are_told_in_the_order_of_the_file(refused: Any) -> None:
    assert refused("naem = 1\n[[cameras]]\n[panel]\npeak_w = 'a'\n") == [
        "1: name: missing",
        "1: naem: unknown key; did you mean name?",
        "2: cameras[0].source: missing",
        '4: panel.peak_w: must be a valid number, got "a"',
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name = 'x'\nperiod_s 2\n", "2: period_s 2: not valid TOML, column 10: Expected '=' after a key"),
        ("name = 'x'\nname = 'y'\n", "2: name = 'y': not valid TOML, column 11: Cannot overwrite a value"),
        ("[panel]\nloss = 1\n[panel]\n", "3: [panel]: not valid TOML, column 7: Cannot declare ('panel',) twice"),
        ("name = 'x'\ncameras = [\n", "2: cameras = [: not valid TOML"),
        ("name = 'x\n", "1: name = 'x: not valid TOML"),
    ],
)
def test_broken_syntax_is_told_with_the_line_and_what_it_says(refused: Any, text: str, fault: str) -> None:
    (row,) = refused(text)
    assert row.startswith(fault)


def test_bytes_that_are_no_text_are_told_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(b"name = 'x'\nother = '\xff'\n")
    with pytest.raises(ConfigError) as caught:
        TomlFile.read(path)
    assert str(caught.value) == f"{path}:2: not UTF-8 text: byte 0xff"


@pytest.mark.parametrize("name", ["nowhere.toml", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=r"^cannot read .*: (No such file or directory|Is a directory)$"):
        TomlFile.read(tmp_path / name)


@pytest.mark.parametrize("levels", [150, 300, 5000])
@pytest.mark.parametrize(("start", "end"), [("[", "]"), ("{a=", "}")], ids=["arrays", "tables"])
def test_deep_nesting_is_an_error_like_any_other(tmp_path: Path, levels: int, start: str, end: str) -> None:
    path = tmp_path / "deep.toml"
    path.write_text(f"name = {start * levels}1{end * levels}\n")
    with pytest.raises(ConfigError, match=r"deep\.toml"):
        TomlFile.read(path).validate(Config)


def test_an_integer_of_thousands_of_digits_is_an_error_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "long.toml"
    path.write_text(f"name = 'x'\nperiod_s = {'9' * 5000}\n")
    with pytest.raises(ConfigError, match=r"long\.toml.*(digit|integer)"):
        TomlFile.read(path).validate(Config)


def test_faults_of_our_own_are_placed_alike(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text("[[rules]]\nname = 'a'\n[[rules]]\nname = 'b'\nu = 2\n")
    file = TomlFile.read(path)
    file.fail([])
    with pytest.raises(ConfigError) as caught:
        file.fail(
            [
                Fault(("rules", 1), "u must lie in [0, 1], got 2"),  # the message begins with the key it is about
                Fault(("rules", 0), "the rule fights another"),
                Fault(("rules", 0, "when", "soc"), "no such key: its nearest parent has a line"),
                Fault((), "nothing else is in the file"),
            ]
        )
    assert str(caught.value).split("\n") == [
        f"{path}:1: rules[0]: the rule fights another",
        f"{path}:1: rules[0].when.soc: no such key: its nearest parent has a line",
        f"{path}:1: nothing else is in the file",
        f"{path}:5: rules[1].u: u must lie in [0, 1], got 2",
    ]
