"""A frame that another operating point answered than was asked for, or the CPU in CUDA's place: who is told of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import tnn_edge
from tests.device.camera_folder import lines_of, rows_of, write_camera, write_images
from tests.device.conftest import Command
from tests.device.day_folder import write_day
from tests.device.test_dashboard import rows
from tests.device.test_database import database
from tnn_edge.camera import Accounting, Dial, Frame, FrameSource, Record, run_frames
from tnn_edge.camera.results_page import write_page
from tnn_edge.cli.run import _live_text
from tnn_edge.cli.warning_lines import warnings_told
from tnn_edge.runtime import Engine, Result

REASON = "asked for cuda, the session runs on CPUExecutionProvider"

FULL = """
[governor]
unknown_u = 1.0
[[rules]]
name = "always"
u = 1.0
"""


class Grey(FrameSource):
    """Some frames; between two of them an engine may load what it was asked for."""

    description = "grey"

    def __init__(self, n: int, engine: Engine, settle_after: int | None = None) -> None:
        self.n_frames: int | None = n
        self._engine, self._settle_after = engine, settle_after

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self.n_frames or 0):
            if i == self._settle_after:
                self._engine.settle()
            yield Frame(index=i, name=f"{i}", captured_at=0.0, image=np.full((32, 32, 3), 128, np.uint8))


def run(engine: Engine, u: float, *, n: int = 4, settle_after: int | None = None) -> tuple[list[Record], Accounting]:
    records: list[Record] = []
    accounting = Accounting()
    frames = Grey(n, engine, settle_after)
    run_frames(frames, engine, Dial(u, u), emit=records.append, accounting=accounting)
    return records, accounting


@pytest.fixture
def small(tiny_bundle: Path, cache: Path) -> Iterator[Engine]:
    """An engine with room for one operating point."""
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=0.5) as loaded:
        yield loaded


@pytest.fixture
def on_the_cpu(engine: Engine) -> Iterator[Engine]:
    """An engine that was to run on CUDA."""
    with Engine(engine.bundle, engine.plans, "cpu", engine.settings, fallback=REASON) as loaded:
        yield loaded


def test_a_record_has_the_point_that_was_asked_for_and_the_one_that_ran(small: Engine) -> None:
    records, accounting = run(small, 0.5)
    assert [(record["u"], record["asked_u"], record["point_u"]) for record in records] == [(0.5, 0.4, 0.0)] * 4
    assert {record["macs"] for record in records} == {small.points[0].macs}
    assert (accounting.lowered, accounting.processed) == (4, 4)


def test_frames_count_as_lowered_no_longer_once_the_point_is_in_memory(tiny_bundle: Path) -> None:
    with tnn_edge.load(tiny_bundle, device="cpu", max_resident_mb=64) as roomy:
        records, accounting = run(roomy, 1.0, n=5, settle_after=1)
    ran = [record["point_u"] for record in records]
    assert ran[1:] == [0.8] * 4
    assert {record["asked_u"] for record in records} == {0.8}
    assert accounting.lowered == (ran[0] == 0.0)  # the point may come while the first frame looks for it


def test_a_point_in_memory_is_no_lower_one(engine: Engine) -> None:
    records, accounting = run(engine, 0.5)
    assert all(record["asked_u"] == record["point_u"] == 0.4 for record in records)
    assert all("fallback" not in record for record in records)
    assert (accounting.lowered, accounting.fallback) == (0, None)


def test_the_accounting_says_how_many_frames_a_lower_point_answered() -> None:
    accounting = Accounting(captured=5, processed=5, lowered=2, fallback=REASON, seconds=1.0)
    assert str(accounting).startswith(
        "captured 5 = 5 processed + 0 dropped + 0 failed; 2 by a lower operating point than asked for; 1.0 s, "
    )
    assert "lower" not in str(replace(accounting, lowered=0))
    summary = accounting.as_json()
    assert (summary["lowered"], summary["fallback"]) == (2, REASON)
    assert Accounting().as_json()["fallback"] is None


def test_the_reason_for_the_cpu_is_told_with_the_first_frame_alone(on_the_cpu: Engine) -> None:
    records, accounting = run(on_the_cpu, 1.0)
    assert [record.get("fallback") for record in records] == [REASON, None, None, None]
    assert accounting.fallback == REASON


def test_an_engine_that_falls_back_in_the_middle_tells_it_then(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    reasons = iter([None, None, REASON, REASON, "another", "another"])
    run_as_ever = Engine.run

    def fails_over(self: Engine, *args: Any, **options: Any) -> Result:
        return replace(run_as_ever(self, *args, **options), fallback=next(reasons))

    monkeypatch.setattr(Engine, "run", fails_over)
    records, accounting = run(engine, 1.0, n=6)
    assert [record.get("fallback") for record in records] == [None, None, REASON, None, "another", None]
    assert accounting.fallback == "another"


def test_the_live_view_says_what_was_asked_for_and_what_ran(small: Engine) -> None:
    (record, *_), accounting = run(small, 0.5, n=1)
    assert "  u 0.500 (asked 0.400, ran 0.000)  " in _live_text(record, accounting, None).plain
    view = rows(record)
    assert view["u"].rstrip().endswith("0.50  asked 0.400, ran 0.000")
    assert "by a lower point" not in view["frames"]  # of the run so far


def test_the_live_view_counts_lowered_frames_and_says_why_the_cpu_runs(small: Engine) -> None:
    (record, *_), _ = run(small, 0.5, n=1)
    view = rows(record, accounting=Accounting(captured=3, processed=3, lowered=2, fallback="no \x1b[2Jdriver"))
    assert view["frames"].rstrip().endswith("0 failed, 2 by a lower point than asked for")
    assert view["on"].split(maxsplit=3)[3].rstrip() == r"no \x1b[2Jdriver"


def test_lines_database_page_and_summary_of_a_small_memory_agree(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    images = write_images(tmp_path / "images", 3)
    path = write_camera(
        tmp_path, tiny_bundle, rules=FULL, source={"spec": str(images)}, engine={"max_resident_mb": 0.5}
    )
    code, out, err = tnn_edge_command("run", str(path), "--json")
    assert (code, out) == (0, "")
    *lines, last = lines_of(tmp_path / "out" / "frames.jsonl")
    frames = rows_of(tmp_path / "out" / "frames.db", "frames")
    for found in (lines, frames):
        assert [(row["u"], row["asked_u"], row["point_u"]) for row in found] == [(1.0, 0.8, 0.0)] * 3
    assert (last["summary"]["lowered"], last["summary"]["fallback"]) == (3, None)
    assert "; 3 by a lower operating point than asked for; " in err
    pytest.importorskip("matplotlib")
    write_page(tmp_path / "out" / "frames.db", tmp_path / "page.html")
    said = "3 frames were answered by a lower operating point than asked for, which was not in memory."
    assert said in " ".join((tmp_path / "page.html").read_text().split())


def test_the_option_of_the_command_limits_the_memory(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    images = write_images(tmp_path / "images", 2)
    common = ["run", str(images), "--bundle", str(tiny_bundle), "--device", "cpu"]
    _, out, _ = tnn_edge_command(*common, "--max-resident-mb", "0.5")
    assert [json.loads(line)["point_u"] for line in out.splitlines()] == [0.0, 0.0]
    _, out, _ = tnn_edge_command(*common)
    assert [json.loads(line)["point_u"] for line in out.splitlines()] == [0.8, 0.8]


def test_the_page_says_since_when_the_cpu_computes(on_the_cpu: Engine, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    records, accounting = run(on_the_cpu, 1.0)
    with database(tmp_path / "r.db", accounting) as results:
        for record in records:
            results.add(record)
    assert [row["fallback"] for row in rows_of(tmp_path / "r.db", "frames")] == [REASON, None, None, None]
    write_page(tmp_path / "r.db", tmp_path / "page.html")
    assert f"The CPU computed from frame 0 on: {REASON}" in (tmp_path / "page.html").read_text()


def has_cuda_that_cannot_start(monkeypatch: pytest.MonkeyPatch) -> None:
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    offered = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: offered)


def test_a_run_warns_once_that_it_goes_on_on_the_cpu(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_cuda_that_cannot_start(monkeypatch)
    images = write_images(tmp_path / "images", 3)
    path = write_camera(tmp_path, tiny_bundle, source={"spec": str(images)}, engine={"device": "auto"})
    code, _, err = tnn_edge_command("run", str(path), "--json")
    assert code == 0
    *lines, last = lines_of(tmp_path / "out" / "frames.jsonl")
    reason = last["summary"]["fallback"]
    assert "cuda" in reason
    assert err.splitlines()[0] == f"warning: {reason}: running on the CPU instead"
    assert err.count("warning: ") == 1
    assert [line.get("fallback") for line in lines] == [reason, None, None]


def test_a_day_says_why_it_runs_on_the_cpu(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = str(write_day(tmp_path, tiny_bundle))
    code, out, _ = tnn_edge_command("day", scenario, "--device", "cpu", "--json")
    assert (code, json.loads(out)["fallback"]) == (0, None)
    has_cuda_that_cannot_start(monkeypatch)
    code, out, err = tnn_edge_command("day", scenario, "--json")
    reason = json.loads(out)["fallback"]
    assert code == 0
    assert f"warning: {reason}: running on the CPU instead\n" in err


def test_warnings_are_told_safely_and_by_the_innermost() -> None:
    outer: list[str] = []
    inner: list[str] = []
    log = logging.getLogger("tnn_edge.some.module")
    with warnings_told(outer.append):
        log.warning("%s is lost", "a\x1b[2J\nb")
        with warnings_told(inner.append):
            log.warning("twice?")
            log.info("not told")
        log.warning("again")
    log.warning("nobody listens")
    assert outer == [r"warning: a\x1b[2J\nb is lost", "warning: again"]
    assert inner == ["warning: twice?"]


def test_a_warning_that_cannot_be_written_costs_nothing() -> None:
    def full(line: str) -> None:
        raise OSError(28, line)

    with warnings_told(full):
        logging.getLogger("tnn_edge").warning("lost")
