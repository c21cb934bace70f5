"""A gate that looks at the image chooses the operating point; a gate network is checked like a block."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from typer.testing import CliRunner

import tnn_edge
from tests.device.damage import rewrite
from tnn_edge import Engine
from tnn_edge.bundle import open_bundle
from tnn_edge.bundle.structure import check_structure
from tnn_edge.camera import Preprocessor, sweep_throttle
from tnn_edge.camera.image_folder import ImageFolder
from tnn_edge.cli.main import app
from tnn_edge.errors import BundleError, InputError, SchemaError, ThrottleRangeError
from tnn_edge.runtime import install
from tnn_edge.runtime.verify import verify

Array = npt.NDArray[np.float32]
FILE = "gate.onnx"
GRAPH = """
<ir_version: 8, opset_import: ["" : 18]>
gate (float[1, 3, 32, 32] x, float[1] u) => (float[1, 5] scores) {
    mean = GlobalAveragePool (x)
    seen = Flatten <axis = 1> (mean)
    by_image = Gemm (seen, from_image)
    row = Reshape (u, one_by_one)
    by_u = MatMul (row, from_u)
    sum = Add (by_image, by_u)
    scores = Add (sum, bias)
}
"""
MACS = 3 * 5 + 5
CONSTANTS: dict[str, Array] = {
    "from_image": np.array([[0, 1, 2, 3, 4]] * 3, np.float32) * np.float32(0.4),
    "from_u": np.arange(5, dtype=np.float32)[None],
    "bias": np.array([-(i**2) / 8 for i in range(5)], np.float32),
}
"""score_i = i (0.4 (r + g + b) + u) - i^2 / 8: the brighter the image and the larger u, the larger i."""


def expected(x: Array, u: float) -> Array:
    mean = x[0].mean(axis=(1, 2))
    scores: Array = mean @ CONSTANTS["from_image"] + np.float32(u) * CONSTANTS["from_u"][0] + CONSTANTS["bias"]
    return scores


def gate_model(text: str = GRAPH) -> onnx.ModelProto:
    model = onnx.parser.parse_model(text)
    for name, array in CONSTANTS.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1, 1], np.int64), "one_by_one"))
    return model


def give_gate(bundle: Path, model: onnx.ModelProto | None = None, scores: Array | None = None, **spec: Any) -> Path:
    """Make a bundle a contextual one."""
    rewrite(bundle, FILE, (model or gate_model()).SerializeToString())
    with np.load(bundle / "golden.npz") as arrays:
        golden = dict(arrays)
    settings = np.array([0.0, 0.5, 1.0], np.float32)
    right = np.array([[expected(x[None], float(u)) for x in golden["inputs"]] for u in settings])
    golden |= {"gate_throttles": settings, "gate_scores": right if scores is None else scores}
    np.savez(bundle / "golden.npz", **golden)
    rewrite(bundle, "golden.npz", (bundle / "golden.npz").read_bytes())
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["gate_network"] = {
        "file": FILE, "image": "x", "throttle": "u", "scores": "scores", "macs": MACS, **spec
    }  # fmt: skip
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


@pytest.fixture(scope="module")
def gated(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The tiny bundle as a contextual one, loaded."""
    bundle = shutil.copytree(tiny_bundle, tmp_path_factory.mktemp("gated") / "bundle")
    with tnn_edge.load(give_gate(Path(bundle)), device="cpu") as engine:
        yield engine


def images(n: int) -> list[Array]:
    rng = np.random.default_rng(0)
    levels = np.linspace(-0.5, 1.0, n)
    return [(rng.normal(level, 1, (1, 3, 32, 32))).astype(np.float32) for level in levels]


def test_image_and_throttle_together_choose_the_operating_point(gated: Engine, engine: Engine) -> None:
    chosen = set()
    for u in (0.0, 0.4, 1.0):
        for x in images(6):
            result = gated.run(x, u)
            index = int(expected(x, u).argmax())
            chosen.add(index)
            assert (result.u, result.point) == (u, gated.points[index])
            np.testing.assert_array_equal(result.logits, engine.run_point(x, engine.points[index]).logits)
    assert len(chosen) == 5


def test_the_gate_network_is_part_of_what_an_inference_costs(gated: Engine) -> None:
    result = gated.run(images(1)[0], 0.5)
    assert result.macs == result.point.macs + MACS
    assert gated.run_point(images(1)[0], result.point).macs == result.point.macs


def test_a_point_runs_whatever_the_gate_network_would_choose(gated: Engine) -> None:
    x = images(1)[0]
    assert [gated.run_point(x, point).point for point in gated.points] == list(gated.points)


def test_what_is_no_input_is_refused_before_the_gate_network_sees_it(gated: Engine) -> None:
    with pytest.raises(InputError, match=r"x must be float32 \[1, 3, 32, 32\], got float32 \[1, 3, 8, 8\]"):
        gated.run(np.zeros((1, 3, 8, 8), np.float32), 0.5)
    with pytest.raises(ThrottleRangeError, match=r"\[0, 1\], got 1.5"):
        gated.run(images(1)[0], 1.5)


def test_verification_asks_the_gate_network_too(gated: Engine) -> None:
    assert verify(gated).faults == ()


def test_the_commands_say_that_a_gate_network_chooses(bundle_copy: Path) -> None:
    give_gate(bundle_copy)
    for command, says in (("verify", "5 operating points and the gate network verified"), ("inspect", "0.0 kMAC")):
        words = ["bundle", command] if command == "inspect" else [command, "--device", "cpu"]
        done = CliRunner().invoke(app, [*words, str(bundle_copy)], catch_exceptions=False)
        assert (done.exit_code, says in done.stdout) == (0, True)


@pytest.mark.usefixtures("builds_in_this_process")
def test_verification_finds_another_gate_network(bundle_copy: Path, tmp_path: Path) -> None:
    first, *others = open_bundle(bundle_copy).golden[0]  # an install looks at the first
    scores = [[expected(first[None], u), *[np.arange(5, dtype=np.float32)] * len(others)] for u in (0.0, 0.5, 1.0)]
    give_gate(bundle_copy, scores=np.array(scores, np.float32))
    with tnn_edge.load(bundle_copy, device="cpu", cache=tmp_path / "cache") as engine:
        faults = verify(engine).faults
    assert [fault.partition(":")[0] for fault in faults] == [f"gate network at u={u:.4f}" for u in (0, 0.5, 1)]


def test_a_sweep_reports_what_the_images_cost_on_average(gated: Engine, tmp_path: Path) -> None:
    import PIL.Image

    label = gated.manifest.labels[0]
    (tmp_path / "images" / label).mkdir(parents=True)
    for i, level in enumerate((0, 120, 255)):
        PIL.Image.new("RGB", (32, 32), (level,) * 3).save(tmp_path / "images" / label / f"{i}.png")
    folder = ImageFolder(tmp_path / "images")
    sweep = sweep_throttle(gated, folder, throttles=[0.0, 0.3])
    preprocess = Preprocessor(gated.manifest.input)
    for point in sweep.points:
        results = [gated.run(preprocess(frame.image), point.u) for frame in folder if frame.image is not None]
        assert len({result.point.u for result in results}) > 1
        assert point.macs == round(np.mean([result.macs for result in results]))
        assert point.utilisation == pytest.approx(np.mean([result.point.utilisation for result in results]))
        assert point.point_u == point.u


# --- hostile or broken


def refuses(bundle: Path, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        install(open_bundle(bundle), "cpu", bundle / "cache")
    assert not list((bundle / "cache").rglob("*.onnx"))


def test_an_operator_that_no_bundle_may_hold_is_refused(bundle_copy: Path) -> None:
    text = GRAPH.replace("scores = Add (sum, bias)", "raised = Add (sum, bias)\n scores = Erf (raised)")
    refuses(give_gate(bundle_copy, gate_model(text)), rf"{FILE}: operator Erf is not allowed in a bundle")


def test_scores_for_another_number_of_points_are_refused(bundle_copy: Path) -> None:
    model = gate_model()
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4
    with pytest.raises(BundleError, match=rf"{FILE}: (reads and gives|fails the ONNX checker)"):
        check_structure(open_bundle(give_gate(bundle_copy, model)))


def test_inputs_of_other_names_are_refused(bundle_copy: Path) -> None:
    refuses(give_gate(bundle_copy, throttle="dial"), rf"{FILE}: reads and gives .*'u'.*, the manifest says .*'dial'")


def test_a_gate_network_that_costs_more_than_it_says_is_refused(bundle_copy: Path) -> None:
    refuses(give_gate(bundle_copy, macs=MACS - 1), rf"{FILE}: {MACS} MACs, the manifest says {MACS - 1}")


def test_a_gate_network_that_would_fill_the_memory_is_refused(bundle_copy: Path) -> None:
    doubled = "\n".join(f"c{i + 1} = Concat <axis = 3> (c{i}, c{i})" for i in range(30))
    text = GRAPH.replace(
        "mean = GlobalAveragePool (x)", f"c0 = Identity (x)\n {doubled}\n mean = GlobalAveragePool (c30)"
    )
    refuses(give_gate(bundle_copy, gate_model(text)), rf"{FILE}: c\d+ of shape .* are allowed")


def test_a_file_that_is_no_model_is_refused(bundle_copy: Path) -> None:
    give_gate(bundle_copy)
    rewrite(bundle_copy, FILE, b"no model")
    refuses(bundle_copy, rf"{FILE}: not an ONNX model")


def test_a_file_that_the_manifest_does_not_list_is_refused(bundle_copy: Path) -> None:
    give_gate(bundle_copy, file="other.onnx")
    with pytest.raises(SchemaError, match=r"gate_network: file other\.onnx is not listed under files"):
        open_bundle(bundle_copy)


@pytest.mark.parametrize(
    ("scores", "says"),
    [
        (np.zeros((3, 4, 4), np.float32), r"gate_scores of shape \[3, 4, 4\], not \[3, 4, 5\]"),
        (np.zeros((2, 4, 5), np.float32), r"gate_scores of shape \[2, 4, 5\], not \[3, 4, 5\]"),
    ],
)
def test_golden_scores_that_fit_nothing_are_named(bundle_copy: Path, scores: Array, says: str) -> None:
    bundle = open_bundle(give_gate(bundle_copy, scores=scores))
    with pytest.raises(BundleError, match=rf"golden\.npz: {says}"):
        _ = bundle.golden_scores


def test_golden_scores_that_are_missing_are_named(bundle_copy: Path) -> None:
    with pytest.raises(BundleError, match=re.escape("array 'gate_throttles' is missing")):
        _ = open_bundle(bundle_copy).golden_scores
