"""Accuracy by light: what a table holds, what lies between its levels, and how it is shown."""

from __future__ import annotations

import json
import math
import re
import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.device.conftest import Command
from tnn_edge.bundle import LightTable, Manifest, open_bundle
from tnn_edge.bundle.light import spread_points
from tnn_edge.bundle.light_plot import draw_light_png
from tnn_edge.bundle.manifest import parse_manifest
from tnn_edge.errors import InputError, SchemaError
from tnn_edge.plant import ImageSensor

DEMO = Path(__file__).parents[2] / "examples" / "demo" / "bundle"

ACCURACY = ((0.1, 0.3, 0.5), (0.2, 0.6, 0.8))
CONFIDENCE = ((0.5, 0.5, 0.6), (0.4, 0.6, 0.9))


def fields() -> dict[str, Any]:
    """Two operating points at three light levels."""
    return {
        "lux": [1.0, 100.0, 1000.0],
        "accuracy": [list(row) for row in ACCURACY],
        "confidence": [list(row) for row in CONFIDENCE],
        "calibration_error": [[0.4, 0.2, 0.1], [0.2, 0.0, 0.1]],
        "n_images": 50,
        "sensor": {"read_noise": 3.0},
    }


def table() -> LightTable:
    return LightTable.model_validate(fields())


# --- between the levels


def test_at_a_measured_level_a_value_is_the_measured_one() -> None:
    for point, row in enumerate(ACCURACY):
        assert table().accuracy_at(point, [1.0, 100.0, 1000.0]).tolist() == list(row)
    for point, row in enumerate(CONFIDENCE):
        assert table().confidence_at(point, [1.0, 100.0, 1000.0]).tolist() == list(row)


def test_between_two_levels_a_value_is_linear_in_the_logarithm_of_light() -> None:
    assert float(table().accuracy_at(0, 10.0)) == pytest.approx((0.1 + 0.3) / 2)  # half way from 1 to 100
    assert float(table().accuracy_at(1, 100 * 10**0.25)) == pytest.approx(0.6 + 0.25 * (0.8 - 0.6))
    assert float(table().confidence_at(1, 10.0)) == pytest.approx((0.4 + 0.6) / 2)


def plainly(levels: list[float], row: list[float], lux: float) -> float:
    """The definition, one light at a time."""
    if not levels[0] <= lux <= levels[-1]:
        return math.nan
    for i in range(len(levels) - 1):
        if levels[i] <= lux <= levels[i + 1]:
            share = math.log10(lux / levels[i]) / math.log10(levels[i + 1] / levels[i])
            return row[i] + share * (row[i + 1] - row[i])
    return row[0]


@given(
    st.lists(st.floats(-2.0, 5.0).map(lambda x: round(x, 2)), min_size=1, max_size=6, unique=True).map(sorted),
    st.lists(st.floats(-3.0, 6.0), min_size=1, max_size=5),
    st.randoms(use_true_random=False),
)
def test_values_are_those_of_the_plain_definition(decades: list[float], asked: list[float], random: Any) -> None:
    levels = [10.0**x for x in decades]
    rows = [[random.random() for _ in levels] for _ in range(3)]
    drawn = LightTable.model_validate(
        {**fields(), "lux": levels, "accuracy": rows, "confidence": rows, "calibration_error": rows}
    )
    lux = [10.0**x for x in asked] + levels
    points = [random.randrange(3) for _ in lux]
    wanted = [plainly(levels, rows[point], light) for point, light in zip(points, lux, strict=True)]
    assert drawn.accuracy_at(points, lux).tolist() == pytest.approx(wanted, rel=1e-9, nan_ok=True)


@pytest.mark.parametrize("lux", [0.999, 1000.1, 0.0, -5.0, math.nan, math.inf, -math.inf])
def test_a_light_that_was_not_measured_is_unknown(lux: float) -> None:
    assert math.isnan(table().accuracy_at(1, lux))
    assert math.isnan(table().confidence_at(1, lux))
    one, other = table().accuracy_at(1, [lux, 100.0]).tolist()
    assert (math.isnan(one), other) == (True, 0.6)  # a device's light is nothing to its neighbours


def test_points_and_lights_broadcast() -> None:
    lux = np.geomspace(0.5, 2000.0, 7)
    grid = table().accuracy_at(np.arange(2)[:, None], lux)
    assert grid.shape == (2, 7)
    for point in range(2):
        alone = [float(table().accuracy_at(point, light)) for light in lux]
        assert grid[point].tolist() == pytest.approx(alone, rel=0, nan_ok=True)


@pytest.mark.parametrize("point", [-1, 2])
def test_a_point_that_is_not_there_is_named(point: int) -> None:
    with pytest.raises(InputError, match=re.escape(f"point_index must lie in [0, 1], got {point}")):
        table().accuracy_at([0, point], 10.0)


def test_a_table_of_one_level_knows_that_level_alone() -> None:
    rows = [[0.5]]
    single = LightTable.model_validate(
        {**fields(), "lux": [10.0], "accuracy": rows, "confidence": rows, "calibration_error": rows}
    )
    assert single.accuracy_at(0, [9.0, 10.0, 11.0]).tolist() == pytest.approx([math.nan, 0.5, math.nan], nan_ok=True)


def test_neighbouring_numbers_may_be_levels() -> None:
    levels = [1e5, math.nextafter(1e5, math.inf), 2e5]
    close = LightTable.model_validate({**fields(), "lux": levels})
    values = close.accuracy_at(0, [*levels, 1.5e5])
    assert np.isfinite(values).all()
    assert values.min() >= 0.1
    assert values.max() <= 0.5


@given(st.integers(1, 200), st.integers(2, 9))
def test_points_that_stand_for_all_are_the_ends_and_evenly_spread_ones(n_points: int, at_most: int) -> None:
    chosen = spread_points(n_points, at_most)
    assert len(chosen) == min(n_points, at_most)
    assert (chosen[0], chosen[-1]) == (0, n_points - 1)
    gaps = [b - a for a, b in pairwise(chosen)]
    assert all(abs(gap - (n_points - 1) / (len(chosen) - 1)) <= 1 for gap in gaps)


# --- what is refused


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lux", [1.0, 100.0, 100.0], "light levels must rise"),
        ("lux", [1.0, 1000.0, 100.0], "light levels must rise"),
        ("lux", [0.0, 100.0, 1000.0], "greater than 0"),
        ("lux", [1.0, 100.0, 1e10], "less than or equal to 1000000000"),
        ("lux", [1.0, 100.0, math.inf], "finite number"),
        ("lux", [], "at least 1 item"),
        ("lux", [1.0, 100.0], "accuracy has a row of 3 values for 2 light levels"),
        ("accuracy", [], "at least 1 item"),
        ("accuracy", [[0.1, 0.3, 1.1], [0.2, 0.6, 0.8]], "less than or equal to 1"),
        ("accuracy", [[0.1, 0.3, math.nan], [0.2, 0.6, 0.8]], "finite number"),
        ("accuracy", [[0.1, 0.3, 0.5]], "confidence has 2 operating points, accuracy 1"),
        ("confidence", [[0.1, 0.3, 0.5], [0.2, 0.6]], "confidence has a row of 2 values for 3 light levels"),
        ("confidence", [[-0.1, 0.3, 0.5], [0.2, 0.6, 0.7]], "greater than or equal to 0"),
        ("calibration_error", [[0.1, 0.1, 0.1]], "calibration_error has 1 operating points, accuracy 2"),
        ("n_images", 0, "greater than or equal to 1"),
        ("sensor", {"read_noise": math.inf}, "finite number"),
        ("sensor", {"read\x1bnoise": 1.0}, "must hold no control character"),
        ("colour", 1, "Extra inputs are not permitted"),
    ],
)
def test_a_table_that_does_not_hold_is_refused(key: str, value: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LightTable.model_validate({**fields(), key: value})


def test_a_table_cannot_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        table().n_images = 3


def manifest_text(bundle: Path, light: object) -> str:
    return json.dumps({**json.loads((bundle / "manifest.json").read_text()), "light": light})


def test_a_manifest_wants_a_row_for_every_operating_point(tiny_bundle: Path) -> None:
    with pytest.raises(SchemaError, match="light has 2 operating points, the manifest 5"):
        parse_manifest(manifest_text(tiny_bundle, fields()), "manifest.json")


def test_a_number_as_text_is_no_number_in_a_table(tiny_bundle: Path) -> None:
    with pytest.raises(SchemaError, match=r"light\.n_images: Input should be a valid integer"):
        parse_manifest(manifest_text(tiny_bundle, {**fields(), "n_images": "50"}), "manifest.json")


def test_a_manifest_without_a_table_has_none(tiny_bundle: Path) -> None:
    text = json.loads((tiny_bundle / "manifest.json").read_text())
    text.pop("light", None)
    assert parse_manifest(json.dumps(text), "manifest.json").light is None


def test_a_table_survives_writing_and_reading(tiny_bundle: Path) -> None:
    manifest = open_bundle(tiny_bundle).manifest
    assert manifest.light is not None
    assert parse_manifest(manifest.model_dump_json(), "manifest.json") == manifest


# --- the measured tables


@pytest.fixture(params=["demo", "tiny"])
def measured(request: pytest.FixtureRequest, tiny_bundle: Path) -> Manifest:
    return open_bundle(DEMO if request.param == "demo" else tiny_bundle).manifest


def test_by_daylight_a_network_answers_as_it_does_without_a_sensor(measured: Manifest) -> None:
    assert measured.light is not None
    noise = 4 * 0.5 / math.sqrt(measured.light.n_images)  # four standard deviations of a share, at its widest
    for row, point in zip(measured.light.accuracy, measured.operating_points, strict=True):
        assert point.accuracy is not None
        assert abs(row[-1] - point.accuracy) < noise + 0.02


def test_in_the_dark_a_network_guesses_and_light_helps(measured: Manifest) -> None:
    assert measured.light is not None
    accuracy = np.array(measured.light.accuracy)
    assert (accuracy[:, 0] < 2.5 / len(measured.labels)).all()
    assert (accuracy[:, -1] > accuracy[:, 0] + 0.1).all()


def test_above_its_full_exposure_the_sensor_sees_no_difference(measured: Manifest) -> None:
    assert measured.light is not None
    sensor = ImageSensor()
    full_lux = sensor.full_well / (sensor.electrons_per_lux_s * sensor.max_exposure_s)
    above = [k for k, lux in enumerate(measured.light.lux) if lux > full_lux]
    assert len(above) == 2
    for row in measured.light.accuracy:
        assert row[above[0]] == pytest.approx(row[above[1]], abs=0.005)


def test_the_sensor_of_a_table_is_named_by_its_numbers(measured: Manifest) -> None:
    assert measured.light is not None
    sensor = ImageSensor()
    assert measured.light.sensor == pytest.approx(
        {name: getattr(sensor, name) for name in sensor.__dataclass_fields__}, rel=1e-4
    )


# --- the command


def test_the_command_prints_accuracy_and_calibration_error_by_light(tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("bundle", "light", str(DEMO))
    assert (code, err) == (0, "")
    manifest = open_bundle(DEMO).manifest
    light = manifest.light
    assert light is not None
    shown = [0, 2, 4, 6, 8, 10]
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    wanted = [
        [f"{lux:g}", *(f"{values[i][k]:.4f}" for i in shown)]
        for values in (light.accuracy, light.calibration_error)
        for k, lux in enumerate(light.lux)
    ]
    assert cells == wanted
    assert "cifar10_resnet_d: accuracy by light on the scene, 5000 held-out images" in out
    assert f"Calibration error at 200000 lux: {light.calibration_error[0][-1]:.4f} at u 0.00" in out
    assert "read_noise 3" in out
    assert "6 of 11 operating points" in out


def test_the_command_prints_every_point_as_json(tnn_edge_command: Command) -> None:
    code, out, err = tnn_edge_command("bundle", "light", str(DEMO), "--json")
    assert (code, err) == (0, "")
    printed = json.loads(out)
    manifest = open_bundle(DEMO).manifest
    assert printed.pop("u") == [point.u for point in manifest.operating_points]
    assert printed == json.loads((DEMO / "manifest.json").read_text())["light"]


def png_size(data: bytes) -> tuple[int, int]:
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def test_the_command_draws(tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path) -> None:
    png = tmp_path / "light.png"
    code, out, err = tnn_edge_command("bundle", "light", str(tiny_bundle), "--png", str(png))
    assert (code, err) == (0, "")
    assert out.endswith(f"drawn: {png}\n")
    assert png_size(png.read_bytes()) == (1100, 450)
    code, out, err = tnn_edge_command("bundle", "light", str(tiny_bundle), "--png", str(png), "--json")
    assert (code, err) == (0, f"drawn: {png}\n")
    json.loads(out)


def test_a_picture_that_cannot_be_written_is_told_before_anything_is_printed(
    tnn_edge_command: Command, tiny_bundle: Path, tmp_path: Path
) -> None:
    code, out, err = tnn_edge_command("bundle", "light", str(tiny_bundle), "--png", str(tmp_path / "no" / "light.png"))
    assert (code, out) == (1, "")
    assert err == f"error: folder {tmp_path / 'no'} does not exist; make it first\n"


def test_a_bundle_without_a_table_is_one_line_with_the_way_out(tnn_edge_command: Command, bundle_copy: Path) -> None:
    (bundle_copy / "manifest.json").write_text(manifest_text(bundle_copy, None))
    code, out, err = tnn_edge_command("bundle", "light", str(bundle_copy))
    assert (code, out) == (1, "")
    assert err == (
        f"error: {bundle_copy} holds no accuracy by light; export it again with held-out images: "
        "python -m export RUN --out BUNDLE --data DIR\n"
    )


def test_a_path_that_is_no_bundle_is_one_line(tnn_edge_command: Command, tmp_path: Path) -> None:
    code, out, err = tnn_edge_command("bundle", "light", str(tmp_path))
    assert (code, out, err) == (1, "", f"error: {tmp_path} is not a bundle: manifest.json is missing\n")


@pytest.mark.parametrize("lux", [[10.0], [1e-9, 1e9], [3.0, 4.0]], ids=str)
def test_any_table_can_be_drawn(lux: list[float]) -> None:
    rows = [[0.5] * len(lux)]
    drawn = LightTable.model_validate(
        {**fields(), "lux": lux, "accuracy": rows, "confidence": rows, "calibration_error": rows}
    )
    assert png_size(draw_light_png(drawn, [0.0], name="$x^{ a name")) == (1100, 450)
