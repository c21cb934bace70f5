"""What a manifest promises, and what it refuses."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tnn_edge.bundle import SCHEMA_VERSION, Manifest, OperatingPoint
from tnn_edge.bundle.manifest import parse_manifest, utilisation
from tnn_edge.errors import BundleError, SchemaError, ThrottleRangeError

WHERE = "somewhere/manifest.json"


def fields_of(dial: list[float], gates: list[dict[str, str]], weights: dict[str, list[float]]) -> dict[str, Any]:
    """A manifest of one block, with an operating point for each entry of the dial."""
    shares = {name: tuple(values) for name, values in weights.items()}
    return {
        "schema_version": SCHEMA_VERSION,
        "name": "drawn",
        "task": "classification",
        "labels": ["no", "yes"],
        "input": {"name": "x", "shape": [1, 3, 8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "output": "logits",
        "blocks": [{"name": "block", "file": "blocks/block.onnx", "input": "x", "output": "y"}],
        "gates": [{"name": name, "weights": values} for name, values in weights.items()],
        "operating_points": [
            {"u": u, "gates": bits, "utilisation": utilisation(bits, shares), "macs": 10 * i, "statistics": i}
            for i, (u, bits) in enumerate(zip(dial, gates, strict=True))
        ],
        "files": {"blocks/block.onnx": {"bytes": 1, "sha256": "0" * 64}},
        "licence": "Apache-2.0",
        "provenance": {},
    }


REAL = st.floats(1.0, 1e6)
WHOLE = st.integers(1, 1000).map(float)


@st.composite
def manifests(draw: st.DrawFn, costs: st.SearchStrategy[float] = REAL) -> dict[str, Any]:
    """Manifests that are valid: u rises from 0, and every point has a bit for each weight."""
    weights = draw(
        st.dictionaries(
            st.sampled_from(["one", "two", "three"]),
            st.lists(costs, min_size=1, max_size=5),
            min_size=1,
            max_size=3,
        )
    )
    dial = [0.0, *sorted(draw(st.sets(st.floats(0.0, 1.0, exclude_min=True), max_size=6)))]
    gates = [
        {name: "".join(draw(st.sampled_from("01")) for _ in values) for name, values in weights.items()} for _ in dial
    ]
    return fields_of(dial, gates, weights)


def valid() -> dict[str, Any]:
    return fields_of([0.0, 0.5], [{"g": "00"}, {"g": "11"}], {"g": [1.0, 3.0]})


def parse(fields: object) -> Manifest:
    return parse_manifest(json.dumps(fields), WHERE)


@given(manifests(), st.floats(0.0, 1.0))
def test_a_throttle_selects_the_largest_u_at_or_below_it(fields: dict[str, Any], u: float) -> None:
    manifest = parse(fields)
    assert manifest.point_at(u).u == max(p["u"] for p in fields["operating_points"] if p["u"] <= u)


@given(manifests())
def test_writing_and_reading_gives_the_same_manifest(fields: dict[str, Any]) -> None:
    manifest = parse(fields)
    assert parse_manifest(manifest.model_dump_json(), WHERE) == manifest
    assert [p.u for p in manifest.operating_points] == [p["u"] for p in fields["operating_points"]]


@given(manifests())
def test_every_operating_point_holds_from_its_own_u(fields: dict[str, Any]) -> None:
    manifest = parse(fields)
    assert [manifest.point_at(p.u) for p in manifest.operating_points] == list(manifest.operating_points)


@pytest.mark.parametrize("u", [-0.001, 1.001, math.nan, math.inf, -math.inf])
def test_a_throttle_out_of_range_is_named(u: float) -> None:
    with pytest.raises(ThrottleRangeError, match=re.escape(f"throttle u must lie in [0, 1], got {u:g}")) as caught:
        parse(valid()).point_at(u)
    assert isinstance(caught.value, ValueError)


@given(manifests(WHOLE), st.data())
def test_statistics_are_those_of_the_point_itself_or_the_nearest_at_or_below_in_utilisation(
    fields: dict[str, Any], data: st.DataObject
) -> None:
    manifest = parse(fields)
    asked = {
        g["name"]: data.draw(st.text("01", min_size=len(g["weights"]), max_size=len(g["weights"])))
        for g in fields["gates"]
    }
    weights = {g["name"]: g["weights"] for g in fields["gates"]}
    total = sum(sum(w) for w in weights.values())
    share = sum(w for name, bits in asked.items() for bit, w in zip(bits, weights[name], strict=True) if bit == "1")
    best: OperatingPoint | None = next((point for point in manifest.operating_points if point.gates == asked), None)
    for point in manifest.operating_points if best is None else ():
        if point.utilisation <= share / total + 1e-9 and (best is None or point.utilisation > best.utilisation):
            best = point
    assert manifest.statistics_for(asked) == (best or manifest.operating_points[0]).statistics


def test_statistics_of_a_vector_between_two_points_are_those_of_the_lower() -> None:
    manifest = parse(fields_of([0.0, 0.5], [{"g": "00"}, {"g": "01"}], {"g": [1.0, 3.0]}))
    assert manifest.operating_points[1].utilisation == 3 / 4
    assert [manifest.statistics_for({"g": bits}) for bits in ("00", "10", "01", "11")] == [0, 0, 1, 1]


def test_utilisation_is_the_share_of_the_weights_that_are_on() -> None:
    weights = {"a": (1.0, 2.0), "b": (4.0,)}
    assert utilisation({"a": "10", "b": "0"}, weights) == 1 / 7
    assert utilisation({"a": "01", "b": "1"}, weights) == 6 / 7


def test_blocks_on_are_the_gates_with_a_component_on() -> None:
    point = OperatingPoint(u=0.0, gates={"a": "010", "b": "00", "c": "1"}, utilisation=0.5, macs=1)
    assert point.blocks_on == ("a", "c")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1, 2",
        "{'schema_version': 1}",
        pytest.param('{"a": ' + "1" * 5000 + "}", id="digits"),
        pytest.param("[" * 200_000, id="deep"),
    ],
)
def test_what_is_no_json_is_named_with_its_file(text: str) -> None:
    with pytest.raises(SchemaError, match=rf"^{WHERE}: not valid JSON \(.*copy it again$"):
        parse_manifest(text, WHERE)


@pytest.mark.parametrize("value", [None, 3, "text", [], {}])
def test_json_that_is_no_manifest_is_refused(value: object) -> None:
    with pytest.raises(SchemaError, match=rf"^{WHERE}: "):
        parse(value)


def test_a_newer_schema_asks_for_an_upgrade() -> None:
    newer = valid() | {"schema_version": SCHEMA_VERSION + 1, "unheard_of": True}
    with pytest.raises(
        SchemaError,
        match=f"{WHERE}: schema version {SCHEMA_VERSION + 1} is newer than {SCHEMA_VERSION}.*upgrade tnn-edge",
    ) as caught:
        parse(newer)
    assert isinstance(caught.value, BundleError)


@pytest.mark.parametrize("version", [0, "1", None, -1, True, 1.0])
def test_another_schema_is_refused(version: object) -> None:
    with pytest.raises(SchemaError, match=f"{WHERE}: schema_version: "):
        parse(valid() | {"schema_version": version})


@pytest.mark.parametrize("component", [2, -1])
def test_a_branch_of_a_component_that_is_not_there_is_named(component: int) -> None:
    fields = replaced("blocks/0/gate", "g")
    fields["blocks"][0]["branches"] = {"v": component}
    with pytest.raises(SchemaError, match=f"block block: branch v belongs to component {component}, which is not"):
        parse(fields)


def test_an_older_schema_asks_for_another_export() -> None:
    with pytest.raises(SchemaError, match=f"{WHERE}: schema version 1 is older than 2, .*; export the run again$"):
        parse(valid() | {"schema_version": 1})


def replaced(path: str, value: object) -> dict[str, Any]:
    """The valid manifest with the value at a path such as ``input.shape.2`` set."""
    fields = valid()
    *parents, last = (int(part) if part.isdigit() else part for part in path.split("/"))
    inner: Any = fields
    for part in parents:
        inner = inner[part]
    inner[last] = value
    return fields


@pytest.mark.parametrize("where", ["", "input/", "blocks/0/", "gates/0/", "operating_points/0/"])
def test_an_unknown_key_is_named_with_its_place(where: str) -> None:
    place = re.escape(where.replace("/", ".") + "colour")
    with pytest.raises(SchemaError, match=f"^{WHERE}: {place}: Extra inputs are not permitted"):
        parse(replaced(where + "colour", 1))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("input/shape", [2, 3, 8, 8]),
        ("input/shape", [1, 3, 0, 8]),
        ("input/shape", [1, 3, 1_000_000, 8]),
        ("input/shape", [True, 3, 8, 8]),
        ("input/shape", [1, 3.0, 8, 8]),
        ("input/shape", [1, 3, "8", 8]),
        ("input/name", ""),
        ("output", "y\n"),
        ("name", "\x1b[2J"),
        ("labels", ["no", "\x7f"]),
        ("blocks/0/name", "a/b"),
        ("blocks/0/branches", {"": 0}),
        ("gates", []),
        ("gates/0/name", "g\0"),
        ("gates/0/weights", [1e308, 1e308]),
        ("gates/0/weights", ["1", 3.0]),
        ("tolerance", 0.2),
        ("tolerance", "0.0001"),
        ("operating_points/1/macs", 10**40),
        ("operating_points/1/macs", True),
        ("input/std", [0.0, 0.1, 0.1]),
        ("input/mean", [math.nan, 0.1, 0.1]),
        ("input/dtype", "float16"),
        ("task", "regression"),
        ("labels", []),
        ("tolerance", 0.0),
        ("tolerance", math.inf),
        ("gates/0/weights", [1.0, 0.0]),
        ("gates/0/weights", [1.0, math.nan]),
        ("operating_points/1/u", math.nan),
        ("operating_points/1/u", 1.5),
        ("operating_points/1/statistics", -1),
        ("operating_points/1/accuracy", 1.1),
        ("operating_points/1/gates/g", "1x"),
        ("files/blocks~1block.onnx/sha256", "0" * 63),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_place(path: str, value: object) -> None:
    fields = valid()
    *parents, last = (int(part) if part.isdigit() else part.replace("~1", "/") for part in path.split("/"))
    inner: Any = fields
    for part in parents:
        inner = inner[part]
    inner[last] = value
    place = re.escape(path.replace("/", ".").replace("~1", "/"))
    with pytest.raises(SchemaError, match=f"^{WHERE}: {place}"):
        parse(fields)


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("operating_points/1/gates", {"g": "111"}, "operating point u=0.5: its gates do not fit those of the network"),
        ("operating_points/1/gates", {"h": "11"}, "operating point u=0.5: its gates do not fit those of the network"),
        ("operating_points/1/gates", {}, "operating point u=0.5: its gates do not fit those of the network"),
        ("operating_points/1/u", 0.0, "operating points must start at u=0 and rise"),
        ("operating_points/0/u", 0.1, "operating points must start at u=0 and rise"),
        ("blocks/0/gate", "h", "block block: unknown gate h"),
        ("blocks/0/tensors", {"w": {"slices": [{"axis": 0, "gate": "h", "channels": 1}]}}, "unknown gate h"),
        ("blocks/0/tensors", {"w": {"slices": [], "group_of": "h"}}, "block block: unknown gate h"),
        ("blocks/0/branches", {"v": 0}, "block block: branches without a gate that leaves them out"),
        ("blocks/0/file", "blocks/other.onnx", "file blocks/other.onnx is not listed under files"),
    ],
)
def test_parts_that_contradict_each_other_are_named(path: str, value: object, says: str) -> None:
    with pytest.raises(SchemaError, match=f"^{WHERE}: .*{re.escape(says)}"):
        parse(replaced(path, value))


def test_operating_points_that_fall_are_refused() -> None:
    fields = fields_of([0.0, 0.6, 0.3], [{"g": "0"}, {"g": "1"}, {"g": "1"}], {"g": [1.0]})
    with pytest.raises(SchemaError, match="operating points must start at u=0 and rise"):
        parse(fields)


def test_a_lone_surrogate_is_no_json_text() -> None:
    text = json.dumps(replaced("name", "\ud800"))
    with pytest.raises(SchemaError, match=rf"^{WHERE}: manifest: Invalid JSON"):
        parse_manifest(text, WHERE)
    with pytest.raises(ValidationError, match=r"name\n  Input should be a valid string"):
        Manifest.model_validate(replaced("name", "\ud800"))


def test_a_control_character_is_shown_escaped() -> None:
    with pytest.raises(SchemaError, match=r"labels\.1: .*'a\\x1b\[2J' must hold no control character$"):
        parse(replaced("labels", ["no", "a\x1b[2J"]))


@pytest.mark.parametrize(("key", "value"), [("axis", 10**30), ("axis", 4), ("channels", 10**12), ("channels", 0)])
def test_a_slice_out_of_range_is_named(key: str, value: int) -> None:
    spec = {"slices": [{"axis": 0, "gate": "g", "channels": 1} | {key: value}]}
    with pytest.raises(SchemaError, match=rf"^{WHERE}: blocks\.0\.tensors\.w\.slices\.0\.{key}: Input should be"):
        parse(replaced("blocks/0/tensors", {"w": spec}))


@pytest.mark.parametrize("kind", ["gate", "block", "label"])
def test_two_of_one_name_are_refused(kind: str) -> None:
    fields = valid()
    fields[f"{kind}s"] = [fields[f"{kind}s"][0]] * 2
    name = {"gate": "g", "block": "block", "label": "no"}[kind]
    with pytest.raises(SchemaError, match=f"two {kind}s are named {name}; each needs a name of its own"):
        parse(fields)


@pytest.mark.parametrize(("share", "fits"), [(1.0, True), (1 - 9e-7, True), (1 - 2e-6, False), (0.3, False)])
def test_a_utilisation_is_that_of_the_gates(share: float, fits: bool) -> None:
    fields = replaced("operating_points/1/utilisation", share)
    if fits:
        assert parse(fields).operating_points[1].utilisation == share
        return
    with pytest.raises(SchemaError, match=r"u=0\.5: utilisation [\d.]+, its gates have 1 of the weights"):
        parse(fields)


OUTSIDE = ["../secret.onnx", "/etc/passwd", "blocks/../../secret", "..", "", ".", "..\\secret", "a\0b"]


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_block_outside_the_bundle_is_refused(path: str) -> None:
    with pytest.raises(
        SchemaError, match=rf"blocks\.0\.file: .*{re.escape(repr(path))} must be a relative path inside"
    ):
        parse(replaced("blocks/0/file", path))


@pytest.mark.parametrize("path", OUTSIDE)
def test_a_listed_file_outside_the_bundle_is_refused(path: str) -> None:
    fields = valid()
    fields["files"][path] = {"bytes": 1, "sha256": "0" * 64}
    with pytest.raises(
        SchemaError, match=rf"files\..*{re.escape(repr(path))} must be a relative path inside the bundle"
    ):
        parse(fields)


def test_the_schema_of_the_tiny_bundle_is_the_current_one(tiny_bundle: Path) -> None:
    text = (tiny_bundle / "manifest.json").read_text()
    assert json.loads(parse_manifest(text, WHERE).model_dump_json(exclude_unset=True)) == json.loads(text)
