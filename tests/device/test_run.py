"""The main job: one record a frame, and an accounting that adds up whatever ends the run."""

from __future__ import annotations

import io
import json
import math
import os
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import PIL.Image
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from tnn_edge.camera import Accounting, Dial, Frame, FrameSource, ImageFolder, Record, preprocess, run_frames
from tnn_edge.camera.live_display import LiveDisplay, one_line
from tnn_edge.cli.main import app
from tnn_edge.cli.run import _live_text
from tnn_edge.errors import InputError, SourceError, ThrottleRangeError
from tnn_edge.runtime import Engine

KEYS = ["frame", "name", "time", "u", "asked_u", "point_u", "blocks_run", "macs", "ms", "top1", "confidence", "age_ms"]
N_IMAGES = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Noise of another size than the network's."""
    path = tmp_path / "images"
    path.mkdir()
    rng = np.random.default_rng(0)
    for i in range(N_IMAGES):
        PIL.Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(path / f"{i}.png")
    return path


class Endless(FrameSource):
    """Grey frames without an end; counts those it gave."""

    n_frames = None
    description = "endless"

    def __init__(self) -> None:
        self.n_given = 0

    def __iter__(self) -> Iterator[Frame]:
        while True:
            self.n_given += 1
            image = np.full((32, 32, 3), 128, np.uint8)
            yield Frame(index=self.n_given - 1, name="grey", captured_at=0.0, image=image)


def invoke(*args: str | Path) -> Result:
    return CliRunner().invoke(app, ["run", "--device", "cpu", *map(str, args)], catch_exceptions=False)


def records_of(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run(source: FrameSource, engine: Engine, dial: Dial, **options: Any) -> tuple[list[Record], Accounting]:
    records: list[Record] = []
    accounting = Accounting()
    run_frames(source, engine, dial, emit=records.append, accounting=accounting, **options)
    return records, accounting


def test_every_image_leaves_one_line_that_says_what_the_engine_said(
    engine: Engine, tiny_bundle: Path, folder: Path
) -> None:
    done = invoke(folder, "--bundle", tiny_bundle, "--u", "0.5")
    records = records_of(done.stdout)
    assert done.exit_code == 0
    assert [record["name"] for record in records] == [f"{i}.png" for i in range(N_IMAGES)]
    for i, record in enumerate(records):
        assert list(record) == KEYS
        image = np.asarray(PIL.Image.open(folder / record["name"]), np.uint8)
        result = engine.run(preprocess(image, engine.manifest.input), u=0.5)
        logits = result.logits[0].astype(np.float64)
        assert record["frame"] == i
        assert (record["u"], record["asked_u"], record["macs"]) == (0.5, result.point.u, result.macs)
        assert record["point_u"] == record["asked_u"]
        assert record["blocks_run"] == len(result.blocks_run)
        assert record["top1"] == engine.manifest.labels[int(logits.argmax())]
        assert record["confidence"] == pytest.approx(np.exp(logits).max() / np.exp(logits).sum(), abs=1e-6)
        assert record["ms"] > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", record["time"])
        assert datetime.fromisoformat(record["time"].removesuffix("Z")).year >= 2024


def test_piped_output_has_an_accounting_on_stderr_and_no_live_line(tiny_bundle: Path, folder: Path) -> None:
    done = invoke(folder, "--bundle", tiny_bundle)
    pattern = rf"captured {N_IMAGES} = {N_IMAGES} processed \+ 0 dropped \+ 0 failed; [\d.]+ s, .* MMACs each\n"
    assert re.fullmatch(pattern, done.stderr)


def test_a_damaged_image_is_one_failed_frame_and_the_run_goes_on(tiny_bundle: Path, folder: Path) -> None:
    (folder / "2.png").write_bytes(b"not an image")
    done = invoke(folder, "--bundle", tiny_bundle, "--json")
    *records, last = records_of(done.stdout)
    assert done.exit_code == 0
    assert list(records[2]) == ["frame", "name", "time", "u", "error"]
    assert records[2]["error"].startswith("the image does not decode")
    assert [("error" in record) for record in records] == [i == 2 for i in range(N_IMAGES)]
    counts = {key: last["summary"][key] for key in ("captured", "processed", "dropped", "failed")}
    assert counts == {"captured": N_IMAGES, "processed": N_IMAGES - 1, "dropped": 0, "failed": 1}


def test_a_run_in_which_every_frame_fails_is_an_error(tiny_bundle: Path, folder: Path) -> None:
    for path in folder.iterdir():
        path.write_bytes(b"not an image")
    with pytest.raises(SourceError, match=rf"no result: all {N_IMAGES} frames of {N_IMAGES} images in .* failed"):
        invoke(folder, "--bundle", tiny_bundle)


def test_a_camera_that_fails_in_the_middle_leaves_its_lines_and_its_accounting(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Endless):
        def __iter__(self) -> Iterator[Frame]:
            yield from islice(super().__iter__(), 3)
            raise SourceError("camera 0 stopped delivering after 3 frames")

    monkeypatch.setattr("tnn_edge.camera.open_source", lambda spec: Failing())
    done = CliRunner().invoke(app, ["run", "0", "--bundle", str(tiny_bundle), "--device", "cpu", "--json"])
    assert isinstance(done.exception, SourceError)
    assert done.exit_code == 1
    *records, last = records_of(done.stdout)
    assert [record["frame"] for record in records] == [0, 1, 2]
    assert last["summary"]["captured"] == last["summary"]["processed"] == 3
    assert done.stderr.startswith("captured 3 = 3 processed + 0 dropped + 0 failed; ")


def test_an_output_that_is_not_finite_is_a_failed_frame(engine: Engine, folder: Path) -> None:
    def broken(x: Any, u: float) -> Any:
        return SimpleNamespace(logits=np.full((1, 10), np.nan, np.float32))

    stub = cast(Engine, SimpleNamespace(manifest=engine.manifest, run=broken, fallback="no GPU"))
    records, accounting = run(ImageFolder(folder), stub, Dial(0.25, 0.25))
    assert {record["error"] for record in records} == {"the network's output is not finite at u = 0.25"}
    assert (accounting.captured, accounting.failed) == (N_IMAGES, N_IMAGES)
    assert accounting.fallback == "no GPU"


def test_a_ramp_goes_from_the_first_frame_to_the_last(tiny_bundle: Path, folder: Path) -> None:
    up = records_of(invoke(folder, "--bundle", tiny_bundle, "--u", "0:1").stdout)
    assert [record["u"] for record in up] == pytest.approx([i / (N_IMAGES - 1) for i in range(N_IMAGES)], abs=1e-6)
    down = records_of(invoke(folder, "--bundle", tiny_bundle, "--u", "1:0.5", "--limit", "3").stdout)
    assert [record["u"] for record in down] == [1.0, 0.75, 0.5]


def test_a_ramp_over_an_endless_source_swings_there_and_back() -> None:
    dial = Dial.parse("0.2:1", period=8)
    swing = [0.2, 0.4, 0.6, 0.8, 1.0, 0.8, 0.6, 0.4]
    assert [dial.at(i, None) for i in range(16)] == pytest.approx(swing * 2)


def test_a_ramp_stays_at_its_end_when_there_are_more_frames_than_announced() -> None:
    assert Dial(0.0, 1.0).at(30, 10) == 1.0
    assert Dial(0.3, 1.0).at(0, 1) == 0.3


def test_a_constant_is_constant_to_the_last_bit() -> None:
    dial = Dial.parse("0.4")
    assert {dial.at(i, n) for i in range(50) for n in (None, 50)} == {0.4}


@pytest.mark.parametrize("text", ["2", "-0.1", "nan", "0:1.5"])
def test_a_throttle_outside_its_range_is_refused(text: str) -> None:
    with pytest.raises(ThrottleRangeError, match=r"throttle u must lie in \[0, 1\], got (2|-0\.1|nan|1\.5)"):
        Dial.parse(text)


@pytest.mark.parametrize("text", ["", "half", "0:", "0:0.5:1"])
def test_a_throttle_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"must be a number like 0\.4 or a ramp like 0:1, got "):
        Dial.parse(text)


def test_a_period_of_one_frame_is_refused() -> None:
    with pytest.raises(InputError, match="period must be at least 2 frames, got 1"):
        Dial(0.0, 1.0, period=1)


def test_a_limit_captures_no_frame_beyond_it(engine: Engine) -> None:
    source = Endless()
    records, accounting = run(source, engine, Dial(1.0, 1.0), limit=5)
    assert source.n_given == accounting.captured == accounting.processed == len(records) == 5


def test_a_stop_ends_the_run_between_two_frames(engine: Engine) -> None:
    source = Endless()
    answers = iter([False, False, True])
    records, accounting = run(source, engine, Dial(1.0, 1.0), should_stop=lambda: next(answers))
    assert source.n_given == accounting.captured == accounting.processed == len(records) == 2


def test_a_frame_that_an_error_cuts_off_counts_as_failed(engine: Engine) -> None:
    def emit(record: Record) -> None:
        if record["frame"] == 3:
            raise KeyboardInterrupt

    accounting = Accounting()
    with pytest.raises(KeyboardInterrupt):
        run_frames(Endless(), engine, Dial(1.0, 1.0), emit=emit, accounting=accounting)
    assert (accounting.captured, accounting.processed, accounting.failed) == (4, 3, 1)
    assert accounting.is_exact
    assert accounting.seconds > 0


def test_the_accounting_of_no_frames_divides_by_nothing() -> None:
    assert str(Accounting()) == "captured 0 = 0 processed + 0 dropped + 0 failed"
    assert Accounting().as_json()["mean_ms"] is None
    assert not Accounting(captured=2, processed=1).is_exact


def test_lines_go_to_a_file_that_is_not_replaced_unasked(tiny_bundle: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    args: list[str | Path] = [folder, "--bundle", tiny_bundle, "--out", out, "--limit", "2"]
    assert invoke(*args).stdout == ""
    assert len(records_of(out.read_text())) == 2
    with pytest.raises(InputError, match=r"log\.jsonl exists; add to it with --append, replace it with --overwrite"):
        invoke(*args)
    invoke(*args, "--append")
    assert [record["frame"] for record in records_of(out.read_text())] == [0, 1, 0, 1]
    invoke(*args, "--overwrite")
    assert [record["frame"] for record in records_of(out.read_text())] == [0, 1]


def test_a_start_that_fails_leaves_no_file_and_replaces_none(tiny_bundle: Path, tmp_path: Path) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    old.write_text("{}\n")
    for args in ([new], [old, "--overwrite"]):
        with pytest.raises(SourceError, match="does not exist"):
            invoke(tmp_path / "nowhere", "--bundle", tiny_bundle, "--out", *args)
    assert not new.exists()
    assert old.read_text() == "{}\n"


@pytest.mark.parametrize("to_file", [True, False], ids=["file", "stdout"])
def test_every_name_of_an_image_is_a_line_of_valid_json(tiny_bundle: Path, tmp_path: Path, to_file: bool) -> None:
    names = [b"1-\xff.jpg", "2-\u2028\x1b[2J\x9b.jpg".encode(), "3-猫.jpg".encode(), b"4-\n.jpg"]
    for name in names:
        (tmp_path / "images").mkdir(exist_ok=True)
        PIL.Image.new("RGB", (8, 8)).save(tmp_path / "images" / "image.jpg")
        (tmp_path / "images" / "image.jpg").rename(tmp_path / "images" / os.fsdecode(name))
    out = tmp_path / "log.jsonl"
    done = invoke(tmp_path / "images", "--bundle", tiny_bundle, *(("--out", out) if to_file else ()))
    lines = (out.read_bytes() if to_file else done.stdout_bytes).decode().splitlines()
    # What is Unicode comes back exactly; a byte that is not can only be shown.
    assert [json.loads(line)["name"] for line in lines] == [r"1-\xff.jpg", *(name.decode() for name in names[1:])]
    assert "3-猫.jpg" in lines[2]
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", "".join(lines))


def test_the_live_line_shows_no_control_character() -> None:
    failed: Record = {"frame": 0, "name": "a\x1b[2J.jpg", "error": "the file is\nempty"}
    assert _live_text(failed, Accounting(), 3).plain == r"frame 1/3  a\x1b[2J.jpg: the file is\nempty"
    fine: Record = {"frame": 0, "u": 1.0, "asked_u": 0.8, "point_u": 0.8, "blocks_run": 4, "macs": 1, "ms": 1.0}
    fine |= {"confidence": 1.0, "top1": "cat\x1b[2J"}
    assert r"  cat\x1b[2J 1.00  " in _live_text(fine, Accounting(), None).plain


@pytest.mark.parametrize("option", ["--append", "--overwrite"])
def test_an_option_for_a_file_is_refused_without_one(option: str, tiny_bundle: Path, folder: Path) -> None:
    with pytest.raises(InputError, match=r"--append and --overwrite are for a file; name one with --out FILE"):
        invoke(folder, "--bundle", tiny_bundle, option)


def test_the_live_line_is_redrawn_ten_times_a_second_at_most() -> None:
    screen = io.StringIO()
    now = 0.0
    console = Console(file=screen, force_terminal=True, width=80)
    with LiveDisplay(enabled=True, console=console, clock=lambda: now) as display:
        for i in range(10):
            now = i * 0.04
            display.show(lambda: one_line(f"frame-{i}"))  # noqa: B023 -- it is called at once or never
        display.print_above('{"frame": [1]}')
    shown = screen.getvalue()
    drawn = [i for i in range(10) if f"frame-{i}" in shown]
    assert len(drawn) == 1 + math.floor(9 * 0.04 / 0.12)
    assert '{"frame": [1]}\n' in shown


def test_the_live_line_is_silent_when_it_is_off() -> None:
    screen = io.StringIO()
    with LiveDisplay(enabled=False, console=Console(file=screen, force_terminal=True)) as display:
        display.show(lambda: pytest.fail("nothing is drawn, so nothing need be rendered"))
    assert screen.getvalue() == ""
