"""Timings: their shape, and that a ratio is taken only against the same network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.device.calibrated import calibrated_copy
from tnn_edge import Engine
from tnn_edge.cli.main import main
from tnn_edge.errors import BundleError, PlanError, ThrottleRangeError, VerificationError
from tnn_edge.runtime.linking.linker import link
from tnn_edge.runtime.measuring.benchmark import Benchmark, PointTiming, benchmark
from tnn_edge.runtime.vectors.stepwise import Stepwise

POINT_KEYS = {
    "u", "macs", "utilisation", "latency_p50_ms", "latency_p95_ms", "against_static", "against_float32",
    "against_chained", "against_stepwise", "after_switch"
}  # fmt: skip


def save_linked(engine: Engine, u: float, path: Path) -> Path:
    """The sub-network at u as one plain ONNX file, as a static export writes it."""
    ir.save(link(engine.bundle, engine.point_at(u).gates), path)
    return path


def save_other(
    path: Path, *, side: int = 32, classes: int = 10, dtype: int = TensorProto.FLOAT, outputs: int = 1
) -> Path:
    """A network of one matrix product, which no bundle computes."""
    weight = np.ones((3 * side**2, classes), helper.tensor_dtype_to_np_dtype(dtype))
    names = [f"y{i}" for i in range(outputs)]
    nodes = [helper.make_node("Flatten", ["x"], ["flat"])]
    nodes += [helper.make_node("MatMul", ["flat", "w"], [name]) for name in names]
    graph = helper.make_graph(
        nodes,
        "other",
        [helper.make_tensor_value_info("x", dtype, [1, 3, side, side])],
        [helper.make_tensor_value_info(name, dtype, [1, classes]) for name in names],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save_model(model, str(path))
    return path


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``tnn-edge bench ARGS``."""
    monkeypatch.setattr("sys.argv", ["tnn-edge", "bench", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_every_operating_point_is_timed(engine: Engine) -> None:
    timed = benchmark(engine, rounds=3)
    assert [(p.u, p.macs, p.utilisation) for p in timed.points] == [
        (p.u, p.macs, p.utilisation) for p in engine.points
    ]  # fmt: skip
    for point in timed.points:
        assert 0 < point.latency_p50_ms <= point.latency_p95_ms
        assert (point.against_static, point.against_chained) == (None, None)
        assert point.after_switch is not None and point.after_switch > 0


def test_the_json_has_the_machine_and_a_row_for_each_point(engine: Engine) -> None:
    timed = benchmark(engine, dial=[0.5, 0.3], rounds=2).as_json()
    assert json.loads(json.dumps(timed)) == timed
    assert set(timed) == {"machine", "points"}
    assert {"cpu", "cores", "features", "os", "python", "onnxruntime", "threads", "device"} <= set(timed["machine"])
    assert (timed["machine"]["threads"], timed["machine"]["device"]) == (1, "cpu")
    assert [row["u"] for row in timed["points"]] == [0.3, 0.5]
    assert [row["macs"] for row in timed["points"]] == [engine.point_at(u).macs for u in (0.3, 0.5)]
    assert all(set(row) == POINT_KEYS for row in timed["points"])


def test_the_only_point_has_no_switch_to_time(engine: Engine) -> None:
    (point,) = benchmark(engine, dial=[1.0], rounds=2).points
    assert point.after_switch is None


@pytest.mark.parametrize(
    ("dial", "switched"),
    [
        ([0.95, 1.0], [False, False]),
        ([0.0, 0.95, 1.0], [True, True, False]),
        ([0.0, 0.1, 0.95], [True, False, True]),
        ([0.0, 1.0], [True, True]),
    ],
)
def test_a_switch_is_timed_only_where_the_setting_before_selects_another_point(
    engine: Engine, dial: list[float], switched: list[bool]
) -> None:
    points = benchmark(engine, dial=dial, rounds=2).points
    assert [p.u for p in points] == dial
    assert [p.after_switch is not None for p in points] == switched


def test_a_static_file_and_chained_blocks_give_ratios(engine: Engine, tmp_path: Path) -> None:
    file = save_linked(engine, 0.5, tmp_path / "half.onnx")
    half, full = benchmark(engine, dial=[1.0], static={0.5: file}, chained=True, rounds=5).points
    assert (half.u, full.u) == (0.5, 1.0)
    assert half.against_static is not None and half.against_static > 0
    assert full.against_static is None
    assert all(p.against_chained is not None and p.against_chained > 0 for p in (half, full))


def test_vectors_without_a_plan_give_ratios_and_leave_as_much_on(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, str]] = []
    run = Stepwise.run

    def watched(stepwise: Stepwise, x: Any, gates: dict[str, str]) -> Any:
        seen.append(gates)
        return run(stepwise, x, gates)

    monkeypatch.setattr(Stepwise, "run", watched)
    (half,) = benchmark(engine, dial=[0.5], stepwise=True, rounds=10).points
    assert half.against_stepwise is not None and half.against_stepwise > 0
    assert half.against_chained is None
    own = engine.point_at(0.5).gates
    assert all(
        {name: sorted(bits) for name, bits in gates.items()} == {n: sorted(b) for n, b in own.items()} for gates in seen
    )
    assert len({tuple(gates.values()) for gates in seen}) > 1


def test_without_a_dial_the_static_files_name_the_settings(engine: Engine, tmp_path: Path) -> None:
    static = {u: save_linked(engine, u, tmp_path / f"{u}.onnx") for u in (1.0, 0.25)}
    assert [p.u for p in benchmark(engine, static=static, rounds=2).points] == [0.25, 1.0]


@pytest.mark.parametrize(("asked", "computed"), [(1.0, 0.0), (0.0, 1.0), (0.5, 0.7)])
def test_a_static_file_of_another_point_is_refused(
    engine: Engine, tmp_path: Path, asked: float, computed: float
) -> None:
    file = save_linked(engine, computed, tmp_path / "other.onnx")
    message = f"other.onnx does not compute the bundle's operating point u={engine.point_at(asked).u:.4f}$"
    with pytest.raises(VerificationError, match=message):
        benchmark(engine, static={asked: file}, rounds=1)


def test_a_static_file_of_another_network_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match=r"other\.onnx does not compute the bundle's operating point"):
        benchmark(engine, static={0.5: save_other(tmp_path / "other.onnx")}, rounds=1)


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ({"side": 16}, r"tensor\(float\) \[1, 3, 16, 16\]"),
        ({"dtype": TensorProto.DOUBLE}, r"tensor\(double\) \[1, 3, 32, 32\]"),
        ({"outputs": 2}, r"tensor\(float\) \[1, 3, 32, 32\]"),
    ],
)
def test_a_static_file_that_reads_something_else_is_refused(
    engine: Engine, tmp_path: Path, change: dict[str, Any], reads: str
) -> None:
    own = r"tensor\(float\) \[1, 3, 32, 32\]"
    message = f"other.onnx reads {reads}, the bundle {own}, for one output: another network$"
    with pytest.raises(BundleError, match=message):
        benchmark(engine, static={0.5: save_other(tmp_path / "other.onnx", **change)}, rounds=1)


def test_a_static_file_with_other_classes_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(VerificationError, match="does not compute the bundle's operating point"):
        benchmark(engine, static={0.5: save_other(tmp_path / "other.onnx", classes=7)}, rounds=1)


def test_a_static_file_that_is_no_network_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "other.onnx"
    path.write_text("no network")
    with pytest.raises(PlanError, match=r"^ONNX Runtime cannot load .*other\.onnx: "):
        benchmark(engine, static={0.5: path}, rounds=1)


def test_a_setting_out_of_range_is_refused(engine: Engine) -> None:
    with pytest.raises(ThrottleRangeError, match=r"throttle u must lie in \[0, 1\], got 1.5"):
        benchmark(engine, dial=[1.5], rounds=1)


def test_a_benchmark_is_plain_values() -> None:
    timed = Benchmark({"cpu": "some"}, (PointTiming(0.5, 7, 0.4, 1.0, 2.0, against_static=1.01),))
    assert timed.as_json() == {
        "machine": {"cpu": "some"},
        "points": [
            {
                "u": 0.5, "macs": 7, "utilisation": 0.4, "latency_p50_ms": 1.0, "latency_p95_ms": 2.0,
                "against_static": 1.01, "against_float32": None, "against_chained": None,
                "against_stepwise": None, "after_switch": None,
            }
        ],
    }  # fmt: skip


def test_the_command_prints_the_ratios(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_linked(engine, 0.5, tmp_path / "half.onnx")
    options = ["--device", "cpu", "--rounds", "2", "--chained", "--stepwise", "--against", f"0.5={file}"]
    code, out, err = command(capsys, monkeypatch, str(engine.bundle.path), *options)
    assert (code, err) == (0, "")
    assert "/ static" in out
    assert "/ float32" not in out  # columns of what was not timed
    assert "0.5000" in out
    code, out, err = command(capsys, monkeypatch, str(engine.bundle.path), *options, "--json")
    assert (code, err) == (0, "")
    (row,) = json.loads(out)["points"]
    assert set(row) == POINT_KEYS
    assert row["against_static"] > 0
    assert row["against_stepwise"] > 0
    assert row["after_switch"] is None


def test_float32_is_timed_beside_int8(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = calibrated_copy(tiny_bundle, tmp_path / "int8").path
    options = [str(bundle), "--device", "cpu", "--rounds", "2", "--u", "0.5", "--float32"]
    code, out, err = command(capsys, monkeypatch, *options, "--precision", "int8", "--json")
    assert (code, err) == (0, "")
    timed = json.loads(out)
    assert timed["machine"]["precision"] == "int8"
    assert timed["points"][0]["against_float32"] > 0
    code, out, err = command(capsys, monkeypatch, *options)
    assert (code, out) == (2, "")
    assert "it compares with int8; add --precision int8" in " ".join(err.replace("│", " ").split())


def test_the_help_says_which_settings_are_timed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = command(capsys, monkeypatch, "--help")
    assert code == 0
    words = " ".join(out.replace("│", " ").split())
    assert "By default all points, with --against only those of its files." in words


@pytest.mark.parametrize(
    ("against", "says"),
    [
        ("half.onnx", "expected U=FILE.onnx"),
        ("half=half.onnx", "expected U=FILE.onnx"),
        ("1.5=half.onnx", "expected U=FILE.onnx"),
        ("nan=half.onnx", "expected U=FILE.onnx"),
        ("", "expected U=FILE.onnx"),
        ("0.5=", "is no file"),
        ("0.5=nowhere.onnx", "nowhere.onnx is no file"),
        ("0.5=/dev/null", "/dev/null is no file"),
    ],
)
def test_a_badly_written_option_is_a_usage_error(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, against: str, says: str
) -> None:
    code, out, err = command(capsys, monkeypatch, str(tiny_bundle), "--against", against)
    assert (code, out) == (2, "")
    assert "--against" in err
    assert says in " ".join(err.replace("│", " ").split())


def test_the_command_fails_in_one_line_on_another_network(
    engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = save_other(tmp_path / "other.onnx")
    options = ["--device", "cpu", "--against", f"0.5={file}"]
    code, out, err = command(capsys, monkeypatch, str(engine.bundle.path), *options)
    assert (code, out) == (1, "")
    assert err == f"error: {file} does not compute the bundle's operating point u=0.4000\n"
