"""Verification accepts what the network computes and nothing else."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tnn_edge
from tests.device.damage import rewrite
from tnn_edge import Engine
from tnn_edge.bundle import open_bundle
from tnn_edge.cli.main import main
from tnn_edge.errors import BundleError, InputError
from tnn_edge.runtime import verify as verify_module
from tnn_edge.runtime.verify import PointCheck, is_falling, same_answers, verify

Array = npt.NDArray[np.float32]
FaultsOf = Callable[[Path], tuple[str, ...]]

RIGHT = PointCheck(
    u=0.4, blocks_run=2, blocks=4, macs=100, linked_macs=100, error=1e-6, same_top1=True, latency_ms=None
)  # fmt: skip


def edit_golden(bundle: Path, edit: Callable[[Array, Array], None]) -> None:
    """Change the golden arrays in place and make the manifest agree."""
    path = bundle / "golden.npz"
    with np.load(path) as arrays:
        inputs, outputs = arrays["inputs"], arrays["outputs"]
    edit(inputs, outputs)
    np.savez(path, inputs=inputs, outputs=outputs)
    rewrite(bundle, path.name, path.read_bytes())


@pytest.fixture
def faults_of(engine: Engine) -> FaultsOf:
    """Faults of an edited bundle with the plans of the sound one: an install would refuse it."""

    def faults_of(bundle: Path) -> tuple[str, ...]:
        with Engine(open_bundle(bundle), engine.plans, "cpu", engine.settings) as edited:
            return verify(edited).faults

    return faults_of


def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *args: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of ``tnn-edge ARGS``."""
    monkeypatch.setattr("sys.argv", ["tnn-edge", *args])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), printed.out, printed.err


def test_the_tiny_bundle_is_right(engine: Engine) -> None:
    checked = verify(engine)
    assert checked.faults == ()
    for check, point in zip(checked.points, engine.points, strict=True):
        assert check.u == point.u
        assert check.error <= engine.manifest.tolerance
        assert check.same_top1
        assert check.linked_macs == check.macs == point.macs
        assert check.latency_ms is None
        on = sum("1" in bits for bits in point.gates.values())
        assert (check.blocks_run, check.blocks) == (on, len(point.gates))


def test_a_golden_output_beyond_the_tolerance_is_a_fault(bundle_copy: Path, faults_of: FaultsOf) -> None:
    def edit(inputs: Array, outputs: Array) -> None:
        outputs[2, 1, 3] += 3e-4 * np.abs(outputs[2]).max()

    edit_golden(bundle_copy, edit)
    (fault,) = faults_of(bundle_copy)
    assert re.fullmatch(r"u=0\.4000: error [23]\.\d\de-04 exceeds 0.0001", fault)


def test_a_golden_output_within_the_tolerance_is_none(bundle_copy: Path, faults_of: FaultsOf) -> None:
    def edit(inputs: Array, outputs: Array) -> None:
        outputs[2, 1, 3] += 0.5e-4 * np.abs(outputs[2]).max()

    edit_golden(bundle_copy, edit)
    assert faults_of(bundle_copy) == ()


def test_another_input_is_a_fault_at_every_point(bundle_copy: Path, faults_of: FaultsOf) -> None:
    def negate(inputs: Array, outputs: Array) -> None:
        inputs *= -1

    edit_golden(bundle_copy, negate)
    faults = faults_of(bundle_copy)
    assert {fault.partition(":")[0] for fault in faults} == {f"u={u:.4f}" for u in (0.0, 0.2, 0.4, 0.6, 0.8)}


def test_golden_outputs_of_another_point_are_a_fault(bundle_copy: Path, faults_of: FaultsOf) -> None:
    def swap(inputs: Array, outputs: Array) -> None:
        outputs[[0, 4]] = outputs[[4, 0]]

    edit_golden(bundle_copy, swap)
    assert {fault.partition(":")[0] for fault in faults_of(bundle_copy)} == {"u=0.0000", "u=0.8000"}


def test_a_golden_output_that_is_no_number_is_a_fault(bundle_copy: Path, faults_of: FaultsOf) -> None:
    edit_golden(bundle_copy, lambda inputs, outputs: outputs.__setitem__((1, 0, 0), np.nan))
    assert faults_of(bundle_copy) == ("u=0.2000: error nan exceeds 0.0001",)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_golden_outputs_that_no_error_can_be_a_share_of_are_a_fault(
    bundle_copy: Path, faults_of: FaultsOf, value: float
) -> None:
    edit_golden(bundle_copy, lambda _, outputs: outputs[2].fill(value))
    (fault,) = faults_of(bundle_copy)
    assert re.fullmatch(r"u=0\.4000: error (inf|nan) exceeds 0.0001", fault)


def test_golden_inputs_that_are_no_number_are_refused(bundle_copy: Path) -> None:
    edit_golden(bundle_copy, lambda inputs, outputs: inputs.__setitem__((0, 0, 0, 0), np.nan))
    with pytest.raises(BundleError, match=r"golden\.npz: inputs hold values that are not finite"):
        _ = open_bundle(bundle_copy).golden


def test_macs_that_the_linked_graph_does_not_have_are_a_fault(bundle_copy: Path, faults_of: FaultsOf) -> None:
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    macs = manifest["operating_points"][1]["macs"]
    manifest["operating_points"][1]["macs"] = macs - 1
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    assert faults_of(bundle_copy) == (f"u=0.2000: {macs} MACs in the linked graph, {macs - 1} in the manifest",)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"error": 2e-4}, ["u=0.4000: error 2.00e-04 exceeds 0.0001"]),
        ({"error": math.nan}, ["u=0.4000: error nan exceeds 0.0001"]),
        ({"error": math.inf}, ["u=0.4000: error inf exceeds 0.0001"]),
        ({"same_top1": False}, ["u=0.4000: another class than the golden output's"]),
        ({"linked_macs": 99}, ["u=0.4000: 99 MACs in the linked graph, 100 in the manifest"]),
        ({"error": 1e-4}, []),
    ],
)
def test_each_fault_is_put_into_words(changed: dict[str, Any], says: list[str]) -> None:
    assert RIGHT.faults(1e-4) == []
    assert replace(RIGHT, **changed).faults(1e-4) == says


def slow_same_answers(logits: Array, golden: Array, error: float) -> bool:
    for got, wanted in zip(logits, golden, strict=True):
        first, second = sorted(wanted, reverse=True)[:2]
        if first - second > 2 * error and list(got).index(max(got)) != list(wanted).index(max(wanted)):
            return False
    return True


SMALL = hnp.arrays(np.float32, (3, 4), elements=st.integers(-4, 4).map(float))


@given(SMALL, SMALL, st.floats(0.0, 4.0))
def test_same_answers_equals_the_definition(logits: Array, golden: Array, error: float) -> None:
    assert same_answers(logits, golden, error) == slow_same_answers(logits, golden, error)


@given(SMALL, SMALL)
def test_within_the_error_allowed_no_decided_image_changes_its_class(logits: Array, golden: Array) -> None:
    assert same_answers(logits, golden, float(np.abs(logits - golden).max()))


def test_a_decided_image_must_keep_its_class() -> None:
    golden = np.array([[10.0, 0.0, 0.0]], np.float32)
    changed = np.array([[4.0, 5.0, 0.0]], np.float32)
    assert same_answers(golden + np.float32(0.1), golden, 0.1)
    assert not same_answers(changed, golden, 4.9)
    assert same_answers(changed, golden, 5.0)  # leaves nothing decided
    several = np.array([[10.0, 0.0], [0.1, 0.0]], np.float32)
    assert same_answers(np.array([[10.0, 0.0], [0.0, 0.1]], np.float32), several, 0.1)


def test_one_class_has_no_margin() -> None:
    assert same_answers(np.zeros((2, 1), np.float32), np.ones((2, 1), np.float32), 0.0)


LATENCIES = st.lists(st.floats(0.01, 100.0), min_size=1, max_size=12)


@given(LATENCIES, st.floats(0.0, 0.5))
def test_latency_falls_when_lowest_half_and_full_rise_within_the_noise(latencies: list[float], band: float) -> None:
    lowest, half, full = latencies[0], latencies[len(latencies) // 2], latencies[-1]
    rises = lowest < full and not lowest > half * (1 + band) and not half > full * (1 + band)
    assert is_falling(latencies, band) == rises


@given(LATENCIES)
def test_latencies_that_rise_with_u_always_pass(latencies: list[float]) -> None:
    rising = sorted(set(latencies))
    assert is_falling(rising) == (len(rising) > 1)


@given(st.floats(0.1, 10.0), st.integers(2, 10))
def test_a_network_that_skips_nothing_never_passes(latency: float, n: int) -> None:
    assert not is_falling([latency] * n)


def test_within_a_budget_of_memory_nothing_is_verified(tiny_bundle: Path) -> None:
    message = r"takes all operating points; load the engine without max_resident_mb$"
    with (
        tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=100) as engine,
        pytest.raises(InputError, match=message),
    ):
        verify(engine)


def test_timing_reports_a_latency_for_each_point(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "is_falling", lambda latencies: True)
    timed = verify(engine, timing=True, rounds=2)
    assert timed.faults == ()
    assert all(check.latency_ms is not None and check.latency_ms > 0 for check in timed.points)


def test_latency_that_does_not_fall_is_a_fault(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_module, "_latencies", lambda engine, rounds: [3.0, 9.0, 2.0, 9.0, 1.0])
    (fault,) = verify(engine, timing=True).faults
    assert fault == "latency does not fall with u: 3.000, 2.000, 1.000 ms at the lowest, half and full u"


def test_the_command_says_which_points_are_right(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, err = command(capsys, monkeypatch, "verify", str(tiny_bundle), "--device", "cpu")
    assert (code, err) == (0, "")
    assert "5 operating points verified" in out
    assert "0.2000" in out


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_the_command_fails_on_an_edited_golden_output(
    bundle_copy: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    edit_golden(bundle_copy, lambda inputs, outputs: outputs.__setitem__((2, 1, 0), outputs[2, 1, 0] + 1))
    code, out, err = command(capsys, monkeypatch, "verify", str(bundle_copy), "--device", "cpu", *form)
    assert code == 1
    assert re.fullmatch(r"error: u=0\.4000: error \S+ exceeds 0.0001(; u=0\.4000: another class [^\n]*)?\n", err)
    assert "verified" not in out
    if form:
        assert json.loads(out)["faults"][0].startswith("u=0.4000: error")


def test_an_error_that_is_not_finite_is_null_in_json() -> None:
    checked = verify_module.Verification((replace(RIGHT, error=math.nan), RIGHT), ())
    assert [point["error"] for point in checked.as_json()["points"]] == [None, RIGHT.error]
    json.dumps(checked.as_json(), allow_nan=False)


def test_the_error_on_one_input_is_no_larger_than_on_all(engine: Engine) -> None:
    one, every = verify(engine, n_inputs=1), verify(engine)
    assert all(a.error <= b.error for a, b in zip(one.points, every.points, strict=True))
