"""The main job on live sources: fresh results, and every captured frame accounted for, whatever the source does."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest

from tests.device.conftest import Command
from tnn_edge.camera import Accounting, Dial, Frame, FrameSource, LatestFrames, Record, run_frames
from tnn_edge.errors import SourceError
from tnn_edge.runtime import Engine


class Flood(FrameSource):
    """A live source that never waits: far faster than any engine."""

    n_frames = None
    is_live = True
    description = "flood"

    def __init__(self, *, dies_after: int | None = None) -> None:
        self.n_given = 0
        self._dies_after = dies_after

    def __iter__(self) -> Iterator[Frame]:
        while self.n_given != self._dies_after:
            image = np.full((8, 8, 3), self.n_given % 256, np.uint8)
            self.n_given += 1
            yield Frame(index=self.n_given - 1, name="flood", captured_at=0.0, image=image)
        raise SourceError("flood is dry")


def run(frames: FrameSource, engine: Engine, *, limit: int) -> tuple[list[Record], Accounting]:
    records: list[Record] = []
    accounting = Accounting()
    try:
        run_frames(frames, engine, Dial(1.0, 1.0), emit=records.append, accounting=accounting, limit=limit)
    finally:
        frames.close()
    return records, accounting


def test_source_faster_than_the_engine_is_accounted_for_exactly(engine: Engine) -> None:
    source = Flood()
    latest = LatestFrames(source)
    records, accounting = run(latest, engine, limit=50)
    indices = [record["frame"] for record in records]
    assert len(indices) == len(set(indices)) == 50 == accounting.processed
    assert indices == sorted(indices)
    assert accounting.is_exact
    assert accounting.captured == latest.counts.put
    assert 0 <= source.n_given - accounting.captured <= 1  # the last one found the mailbox closed
    assert accounting.dropped == accounting.captured - 50 > 0


def test_source_that_dies_leaves_an_exact_account_and_all_its_results(engine: Engine) -> None:
    source = Flood(dies_after=300)
    latest = LatestFrames(source)
    records: list[Record] = []
    accounting = Accounting()
    with latest, pytest.raises(SourceError, match="flood is dry"):
        run_frames(latest, engine, Dial(1.0, 1.0), emit=records.append, accounting=accounting)
    assert accounting.captured == 300
    assert accounting.is_exact
    assert records[-1]["frame"] == 299  # the newest frame is not lost with the source


def test_source_that_stalls_leaves_an_exact_account(engine: Engine) -> None:
    class Stalled(Flood):
        def __init__(self) -> None:
            super().__init__(dies_after=10)
            self.released = threading.Event()

        def __iter__(self) -> Iterator[Frame]:
            for frame in super().__iter__():
                yield frame
                if self.n_given == 10:
                    self.released.wait()
                    return

    source = Stalled()
    accounting = Accounting()
    latest = LatestFrames(source, stall_s=0.2)
    with pytest.raises(SourceError, match=r"flood has delivered no frame for \d+ s"):
        run_frames(latest, engine, Dial(1.0, 1.0), emit=lambda _record: None, accounting=accounting)
    source.released.set()
    latest.close()
    assert accounting.captured == 10
    assert accounting.is_exact


def test_the_command_takes_the_newest_frame_of_a_live_source_alone(
    tiny_bundle: Path, tmp_path: Path, tnn_edge_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[LatestFrames] = []

    class Watched(LatestFrames):
        def __init__(self, source: FrameSource, **options: Any) -> None:
            super().__init__(source, **options)
            made.append(self)

    monkeypatch.setattr("tnn_edge.camera.LatestFrames", Watched)
    source = "test:?fps=500&frames=40&size=32x32"
    code, out, _ = tnn_edge_command("run", source, "--bundle", str(tiny_bundle), "--device", "cpu", "--json")
    summary = json.loads(out.splitlines()[-1])["summary"]
    assert code == 0
    (latest,) = made
    assert summary["captured"] == latest.counts.put == 40
    assert summary["dropped"] == latest.counts.dropped

    image = tmp_path / "1.png"
    PIL.Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(image)
    tnn_edge_command("run", str(image), "--bundle", str(tiny_bundle), "--device", "cpu")
    assert len(made) == 1  # a file waits until it is read


def test_no_result_is_given_twice_nor_for_a_frame_that_was_not_captured(engine: Engine) -> None:
    source = Flood(dies_after=500)
    latest = LatestFrames(source)
    records: list[Record] = []
    with latest, pytest.raises(SourceError):
        run_frames(latest, engine, Dial(0.0, 1.0), emit=records.append, accounting=Accounting())
    indices = [record["frame"] for record in records]
    assert len(set(indices)) == len(indices)
    assert set(indices) <= set(range(source.n_given))


def test_age_counts_from_capture_to_result(engine: Engine) -> None:
    records, accounting = run(LatestFrames(Flood()), engine, limit=20)
    assert all(record["age_ms"] >= record["ms"] for record in records)
    assert accounting.ages.max_ms == pytest.approx(max(record["age_ms"] for record in records), abs=1e-3)
    assert len(accounting.ages) == accounting.processed
