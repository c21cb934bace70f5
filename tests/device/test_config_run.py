"""`tnn-edge run CONFIG.toml`: lines, database and accounting agree, whatever the source, the disk or Ctrl-C do."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tnn_edge
from tests.device.camera_folder import lines_of, rows_of, write_camera, write_images
from tests.device.conftest import Command
from tests.device.interrupted_runs import N_LOADING, N_LOOPING
from tests.device.sysfs_tree import write_device
from tnn_edge.bundle import open_bundle
from tnn_edge.camera import Frame, FrameSource
from tnn_edge.errors import SourceError

REPOSITORY = Path(__file__).resolve().parents[2]

N_IMAGES = 20
"""Of the runs that are interrupted."""

COUNTS = ("captured", "processed", "dropped", "failed")


def printed_counts(err: str) -> dict[str, int]:
    """The accounting that a command told on stderr; it must add up."""
    found = re.search(r"^captured (\d+) = (\d+) processed \+ (\d+) dropped \+ (\d+) failed", err, re.MULTILINE)
    assert found, err
    counts = dict(zip(COUNTS, map(int, found.groups()), strict=True))
    assert counts["captured"] == counts["processed"] + counts["dropped"] + counts["failed"]
    return counts


def stored_run(folder: Path) -> dict[str, Any]:
    (run,) = rows_of(folder / "out" / "frames.db", "runs")
    return run


def check_that_all_agree(folder: Path) -> list[dict[str, Any]]:
    """That lines and database tell the same of every frame, and `runs` counts them; the lines."""
    lines = lines_of(folder / "out" / "frames.jsonl")
    frames = rows_of(folder / "out" / "frames.db", "frames")
    decisions = {row["decision"]: row for row in rows_of(folder / "out" / "frames.db", "decisions")}
    for line, row in zip(lines, frames, strict=True):
        of_frame = {key: value for key, value in line.items() if key not in ("reason", "observed")}
        assert {key: value for key, value in row.items() if value is not None} == {"run": 1, **of_frame}
        decision = decisions[line["decision"]]
        assert {name: decision[name] for name in line["observed"]} == line["observed"]
        assert (decision["u"], decision["reason"]) == (line["u"], line["reason"])
    assert sorted(decisions) == sorted({line["decision"] for line in lines})
    run = stored_run(folder)
    n_failed = sum("error" in line for line in lines)
    assert (run["processed"], run["failed"]) == (len(lines) - n_failed, n_failed)
    assert run["captured"] == run["processed"] + run["dropped"] + run["failed"]
    return lines


def with_battery(folder: Path, percent: int) -> None:
    write_device(folder / "sys" / "BAT0", type="Battery", status="Discharging", capacity=percent, present=1)


def test_a_folder_of_images_under_a_policy(tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    images = write_images(tmp_path / "images", 12)
    (images / "005.png").write_bytes(b"no image")
    path = write_camera(
        tmp_path, tiny_bundle, source={"spec": "images"}, policy={"period_s": 1e-5, "confidence_time_constant_s": 0.2}
    )
    with_battery(tmp_path, 80)
    code, out, err = tnn_edge_command("run", str(path))
    assert (code, out) == (0, "")
    lines = check_that_all_agree(tmp_path)
    assert printed_counts(err) == {name: stored_run(tmp_path)[name] for name in COUNTS}
    assert [line["name"] for line in lines] == [f"{i:03}.png" for i in range(12)]
    assert ["error" in line for line in lines] == [i == 5 for i in range(12)]
    assert [line["decision"] for line in lines] == list(range(12))
    assert {line["observed"]["soc"] for line in lines} == {0.8}
    run = stored_run(tmp_path)
    assert (run["bundle"], run["config"], run["ended_by"]) == ("cifar10_tiny", path.read_text(), "end")
    assert run["source"] == f"12 images in {images}"
    assert run["digest"] == open_bundle(tiny_bundle).digest

    # The policy hears the network: its confidence is that of the lines before, averaged over time.
    average: float | None = None
    before_s = math.nan
    for line in lines:
        at_s = datetime.fromisoformat(line["time"].replace("Z", "+00:00")).timestamp()
        assert line["observed"]["confidence"] == (None if average is None else pytest.approx(average, abs=0.01))
        if "error" not in line:
            share = 1.0 if average is None else 1.0 - math.exp(-(at_s - before_s) / 0.2)
            average = share * line["confidence"] + (1.0 - share) * (average or 0.0)
            before_s = at_s
    throttles = {"unknown_confidence": 0.25, "doubt": 1.0, "normal": 0.6}
    assert [line["u"] for line in lines] == [throttles[line["reason"]] for line in lines]
    assert {line["reason"] for line in lines} >= {"unknown_confidence", "doubt"}


def test_without_outputs_the_lines_go_to_stdout(tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    path = write_camera(tmp_path, tiny_bundle, output={"lines": None, "database": None})
    code, out, err = tnn_edge_command("run", str(path), "--json")
    *lines, last = map(json.loads, out.splitlines())
    assert code == 0
    assert {name: last["summary"][name] for name in COUNTS} == printed_counts(err)
    assert len(lines) == printed_counts(err)["processed"]
    assert not (tmp_path / "out").exists()


def test_a_second_run_adds_to_lines_and_database(tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    path = write_camera(tmp_path, tiny_bundle, source={"spec": str(write_images(tmp_path / "images", 3))})
    for _ in range(2):
        assert tnn_edge_command("run", str(path), "--json")[0] == 0
    lines = lines_of(tmp_path / "out" / "frames.jsonl")
    assert [line.get("frame", "summary") for line in lines] == [0, 1, 2, "summary"] * 2
    rows = rows_of(tmp_path / "out" / "frames.db", "frames")
    assert [(row["run"], row["frame"]) for row in rows] == [(run, i) for run in (1, 2) for i in range(3)]


def test_a_limit_and_another_source(tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    path = write_camera(tmp_path, tiny_bundle, source={"spec": "9"})
    write_images(tmp_path / "images", 5)
    code, _, err = tnn_edge_command("run", str(path), "--source", str(tmp_path / "images"), "--limit", "3")
    assert code == 0
    assert printed_counts(err)["captured"] == 3
    assert [line["name"] for line in check_that_all_agree(tmp_path)] == ["000.png", "001.png", "002.png"]
    assert stored_run(tmp_path)["ended_by"] == "end"


def test_names_that_are_no_utf_8_agree_too(tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command) -> None:
    images = write_images(tmp_path / os.fsdecode(b"im\xffages"), 1)
    (images / os.fsdecode(b"\xfe.png")).symlink_to("nowhere")
    code, _, _ = tnn_edge_command("run", str(write_camera(tmp_path, tiny_bundle)), "--source", str(images))
    assert code == 0
    assert [line["name"] for line in check_that_all_agree(tmp_path)] == ["000.png", "\\xfe.png"]
    assert stored_run(tmp_path)["source"] == f"2 images in {tmp_path}/im\\xffages"


def test_a_machine_without_a_battery_runs_at_the_declared_u(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    path = write_camera(tmp_path, tiny_bundle, policy={"period_s": 1e-5})
    code, _, err = tnn_edge_command("run", str(path))
    lines = check_that_all_agree(tmp_path)
    assert code == 0
    assert {(line["u"], line["reason"], line["observed"]["soc"]) for line in lines} == {(0.25, "unknown_soc", None)}
    assert err.count("note: ") == err.count("note: soc is unknown: no battery is reported\n") == 1


def test_a_run_in_which_every_frame_fails_is_an_error_with_its_rows(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    images = write_images(tmp_path / "images", 2)
    for image in images.iterdir():
        image.write_bytes(b"")
    code, _, err = tnn_edge_command("run", str(write_camera(tmp_path, tiny_bundle, source={"spec": "images"})))
    assert code == 1
    assert err.endswith(f"error: no result: all 2 frames of 2 images in {images} failed\n")
    assert len(check_that_all_agree(tmp_path)) == 2


@pytest.mark.parametrize(
    ("tables", "error"),
    [
        ({"source": {"spec": "9"}}, r"camera 9 cannot be opened: there is no /dev/video9 .*; name one that is there"),
        ({"source": {"spec": "nowhere.mp4"}}, r".*/nowhere\.mp4 does not exist; name an image folder, a video .*"),
        ({"power": {"need_battery": True}}, r"a battery is needed and its charge cannot be read: no battery .*"),
        ({"output": {"page": "policy.toml/x.html"}}, r".*: output\.page: leads nowhere \(Not a directory\); .*"),
    ],
    ids=["no camera", "no video", "no battery", "no place"],
)  # fmt: skip
def test_a_start_that_fails_is_one_clear_error_and_writes_nothing(
    tables: dict[str, Any], error: str, tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    path = write_camera(tmp_path, tiny_bundle, **tables)
    before = sorted(tmp_path.rglob("*"))
    code, out, err = tnn_edge_command("run", str(path))
    assert (code, out) == (1, "")
    assert re.fullmatch(f"error: {error}\n", err)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_that_cannot_be_written_is_one_clear_error(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    path = write_camera(tmp_path, tiny_bundle, output={"database": "/proc/frames.db"})
    _, _, err = tnn_edge_command("run", str(path))
    assert err == "error: /proc/frames.db cannot be written (unable to open database file); name another file\n"
    path = write_camera(tmp_path, tiny_bundle, output={"database": "/proc/nowhere/frames.db"})
    _, _, err = tnn_edge_command("run", str(path))
    assert err == "error: folder /proc/nowhere cannot be made (No such file or directory); name another\n"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--u", "0.5"], "--u is for a source; {path} has a policy that sets u"),
        (["--bundle", "b"], "--bundle is for a source; {path} has [engine] bundle"),
        (["-b", "b"], "--bundle is for a source; {path} has [engine] bundle"),
        (["--out", "x"], "--out is for a source; {path} has [output] lines"),
        (["--append"], "--append is for a source; {path} always adds to its [output]"),
        (["--overwrite"], "--overwrite is for a source; {path} always adds to its [output]"),
        (["--period", "9"], "--period is for a source; {path} has a policy that sets u"),
        (["--threads", "1"], "--threads is for a source; {path} has [engine] threads"),
        (["--device", "cpu"], "--device is for a source; {path} has [engine] device"),
        (["--precision", "int8"], "--precision is for a source; {path} has [engine] precision"),
        (["--max-resident-mb", "9"], "--max-resident-mb is for a source; {path} has [engine] max_resident_mb"),
        (["--source", "ftp://x"], "ftp:// streams cannot be read; a stream begins with one of rtsp://, rtsps://, http"),
        (["--json"], "--json ends the lines, and [output] in {path} has none; add lines = FILE to it"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_options_that_do_not_go_with_a_configuration_are_refused(
    options: list[str], error: str, tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command
) -> None:
    path = write_camera(tmp_path, tiny_bundle, output={"lines": None})
    code, out, err = tnn_edge_command("run", str(path), *options)
    assert (code, out) == (1, "")
    assert err.startswith(f"error: {error.format(path=path)}")
    assert not (tmp_path / "out").exists()


def test_options_that_need_a_configuration_are_refused_without_one(tmp_path: Path, tnn_edge_command: Command) -> None:
    _, _, err = tnn_edge_command("run", str(tmp_path), "--source", "test:", "--bundle", "b")
    assert err == "error: --source is for a configuration; name one, or the source alone\n"
    _, _, err = tnn_edge_command("run", str(tmp_path))
    assert err == (
        "error: no bundle: name the network with --bundle FOLDER, or a configuration in place of the source\n"
    )
    _, _, err = tnn_edge_command("run", str(tmp_path / "no.toml"))
    assert err == f"error: cannot read {tmp_path}/no.toml: No such file or directory\n"


class Flood(FrameSource):
    """A live source that never waits: far faster than any engine; then it ends, dies or stalls."""

    n_frames = None
    is_live = True
    description = "flood"

    def __init__(self, n: int, then: str) -> None:
        self._n, self._then = n, then
        self._released = threading.Event()

    def __iter__(self) -> Iterator[Frame]:
        for i in range(self._n):
            yield Frame(index=i, name="flood", captured_at=1e9, image=np.full((8, 8, 3), i % 256, np.uint8))
        if self._then == "dies":
            raise SourceError("flood is dry")
        if self._then == "stalls":
            self._released.wait(0.6)

    def stop(self) -> None:
        self._released.set()


@pytest.mark.parametrize(
    ("then", "ended_by"),
    [
        ("ends", "end"),
        ("dies", "SourceError: flood is dry"),
        ("stalls", r"SourceError: flood has delivered no frame for \d+ s; check its cable, power and network"),
    ],
)
def test_a_source_faster_than_the_engine_is_accounted_for_exactly_however_it_goes_on(
    then: str,
    ended_by: str,
    tmp_path: Path,
    tiny_bundle: Path,
    tnn_edge_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    flood = Flood(2000, then)
    monkeypatch.setattr("tnn_edge.camera.config.source_opener", lambda spec, folder: lambda: flood)
    code, _, err = tnn_edge_command("run", str(write_camera(tmp_path, tiny_bundle, source={"stall_s": 0.3})))
    flood.stop()
    lines = check_that_all_agree(tmp_path)
    run = stored_run(tmp_path)
    assert code == (0 if then == "ends" else 1)
    assert re.fullmatch(ended_by, run["ended_by"])
    assert printed_counts(err) == {name: run[name] for name in COUNTS}
    assert (run["captured"], run["failed"]) == (2000, 0)
    assert run["dropped"] > 100
    assert lines[-1]["frame"] == 1999  # the newest frame is not lost with the source
    assert err.endswith(f"{run['ended_by'].replace('SourceError', 'error')}\n") == (then != "ends")


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_while_the_engine_loads_ends_with_130_and_leaves_nothing(
    tmp_path: Path, tiny_bundle: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = tnn_edge.load

    def interrupted(*args: Any, **options: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return load(*args, **options)

    monkeypatch.setattr("tnn_edge.load", interrupted)
    code, out, err = tnn_edge_command("run", str(write_camera(tmp_path, tiny_bundle)))
    assert (code, out) == (130, "")
    assert "Traceback" not in err
    assert [path.name for path in (tmp_path / "out").iterdir()] == []


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, tiny_bundle: Path, cache: Path) -> Path:
    """Runs of one configuration that were interrupted at many moments, a folder each."""
    folder = tmp_path_factory.mktemp("runs")
    write_camera(
        folder, tiny_bundle, source={"spec": str(write_images(folder / "images", N_IMAGES))}, policy={"period_s": 1e-5}
    )
    env = os.environ | {"PYTHONPATH": str(REPOSITORY), "TNN_EDGE_CACHE": str(cache)}
    command = [sys.executable, "-m", "tests.device.interrupted_runs", str(folder)]
    subprocess.run(command, env=env, check=True)
    return folder


def code_and_errors(folder: Path) -> tuple[int, str]:
    return int((folder / "code").read_text()), (folder / "stderr").read_text()


def check_that_lines_and_database_agree_in_part(folder: Path) -> dict[str, Any]:
    *lines, last = lines_of(folder / "out" / "frames.jsonl")
    (run,) = rows_of(folder / "out" / "frames.db", "runs")
    frames = rows_of(folder / "out" / "frames.db", "frames")
    assert [line["frame"] for line in lines] == [row["frame"] for row in frames] == list(range(len(lines)))
    assert run["captured"] == run["processed"] + run["dropped"] + run["failed"] == len(lines)
    assert {name: last["summary"][name] for name in COUNTS} == {name: run[name] for name in COUNTS}
    assert run["ended"] is not None
    return run


def test_a_run_that_nobody_interrupts_is_whole(runs: Path) -> None:
    code, errors = code_and_errors(runs / "whole")
    run = check_that_lines_and_database_agree_in_part(runs / "whole")
    assert (code, run["captured"], run["ended_by"]) == (0, N_IMAGES, "end")
    assert printed_counts(errors)["processed"] == N_IMAGES


@pytest.mark.parametrize("seed", range(N_LOADING))
def test_ctrl_c_before_the_loop_ends_with_130_and_no_traceback(seed: int, runs: Path) -> None:
    folder = runs / f"loading-{seed}"
    code, errors = code_and_errors(folder)
    assert (code, "Traceback" in errors, "error: " in errors) == (130, False, False)
    if (folder / "out" / "frames.db").exists():  # it came when the files were made
        assert check_that_lines_and_database_agree_in_part(folder)["ended_by"] == "signal 2"
    else:
        assert (folder / "out" / "frames.jsonl").read_text() == ""


@pytest.mark.parametrize("seed", range(N_LOOPING))
def test_ctrl_c_in_the_loop_leaves_lines_database_and_accounting_whole(seed: int, runs: Path) -> None:
    folder = runs / f"looping-{seed}"
    code, errors = code_and_errors(folder)
    run = check_that_lines_and_database_agree_in_part(folder)
    assert (code, "Traceback" in errors) == (130, False)
    assert printed_counts(errors) == {name: run[name] for name in COUNTS}
    if run["captured"] < N_IMAGES:  # after the last image the signal may still come first
        assert run["ended_by"] == "signal 2"


def test_sigterm_leaves_lines_database_and_accounting_whole(runs: Path) -> None:
    code, errors = code_and_errors(runs / "terminated")
    run = check_that_lines_and_database_agree_in_part(runs / "terminated")
    assert (code, run["ended_by"], "Traceback" in errors) == (143, "signal 15", False)
    assert 0 < run["captured"] < N_IMAGES


def test_a_full_disk_ends_in_one_clear_error_and_leaves_what_fitted(runs: Path) -> None:
    code, errors = code_and_errors(runs / "full")
    assert (code, "Traceback" in errors) == (1, False)
    counts = printed_counts(errors)
    assert re.search(
        r"error: .*frames\.jsonl cannot be written \(File too large\); all lines before are whole\n$", errors
    )
    whole = [line["frame"] for line in lines_of(runs / "full" / "out" / "frames.jsonl") if "frame" in line]
    frames = [row["frame"] for row in rows_of(runs / "full" / "out" / "frames.db", "frames")]
    assert whole == frames == list(range(counts["processed"]))
    assert 0 < counts["processed"] == counts["captured"] - 1 < N_IMAGES - 1
