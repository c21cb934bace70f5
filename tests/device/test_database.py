"""Results in an SQLite file: what is in it, when, and what is left of it after a kill or on a full disk."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.device.camera_folder import rows_of
from tests.device.diagnosis import ordinary_user
from tnn_edge.camera import Accounting, Frame, LightMeter, Pilot, Record, run_frames
from tnn_edge.camera.database import ResultDatabase, open_results
from tnn_edge.camera.frame import FrameSource
from tnn_edge.control import SIGNALS, Governed, GovernorSettings, SocRampPolicy
from tnn_edge.device import SimulatedDevice, SimulatedPower, SimulatedThermometer
from tnn_edge.errors import InputError, TnnEdgeError
from tnn_edge.plant import Battery
from tnn_edge.runtime import Engine

REPOSITORY = Path(__file__).resolve().parents[2]

OF_A_DECISION = ("reason", "observed")


class Clock:
    """Seconds that pass when they are told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Frames(FrameSource):
    """Noise, a frame every 0.3 s on the clock; every fourth does not decode."""

    is_live = False
    description = "noise"

    def __init__(self, n_frames: int, clock: Clock) -> None:
        self.n_frames: int | None = n_frames
        self._n, self._clock = n_frames, clock

    def __iter__(self) -> Any:
        rng = np.random.default_rng(0)
        for i in range(self._n):
            self._clock.now += 0.3
            image = None if i % 4 == 3 else rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            error = "torn" if image is None else None
            yield Frame(index=i, name=f"{i}", captured_at=1e9 + i, captured_s=self._clock.now, image=image, error=error)


def database(path: Path, accounting: Accounting | None = None, **options: Any) -> ResultDatabase:
    about = {"source": "noise", "bundle": "tiny", "digest": "00ff", "config": "[source]\n", **options}
    return ResultDatabase(path, accounting=Accounting() if accounting is None else accounting, **about)


def record(i: int, *, decision: int = 0, **fields: Any) -> Record:
    observed = {**dict.fromkeys(SIGNALS), "soc": 0.5}
    head: Record = {"frame": i, "name": f"{i}.png", "time": "2026-01-01T00:00:00.000000Z", "u": 0.5}
    return {**head, "decision": decision, "reason": "normal", "observed": observed, **fields}  # type: ignore[typeddict-item]


def seen_by_another(path: Path) -> list[int]:
    return [row["frame"] for row in rows_of(path, "frames")]


def test_rows_say_what_the_records_say(engine: Engine, tmp_path: Path) -> None:
    clock = Clock()
    device = SimulatedDevice(battery=Battery(usable_wh=10.0), soc=0.8, load_w=9000.0, clock=clock)
    pilot = Pilot(
        Governed(SocRampPolicy(), GovernorSettings(unknown_u=0.2)),
        power=SimulatedPower(device),
        thermometer=SimulatedThermometer(device),
        light=LightMeter(),
    )
    records: list[Record] = []
    accounting = Accounting()
    with database(tmp_path / "r.db", accounting) as results:

        def keep(record: Record) -> None:
            records.append(record)
            results.add(record)

        run_frames(Frames(20, clock), engine, pilot, emit=keep, accounting=accounting)
    frames, decisions = rows_of(tmp_path / "r.db", "frames"), rows_of(tmp_path / "r.db", "decisions")

    for row, kept in zip(frames, records, strict=True):
        expected = {key: value for key, value in kept.items() if key not in OF_A_DECISION}
        assert {key: value for key, value in row.items() if value is not None} == {"run": 1, **expected}
    assert [row["error"] for row in frames] == [None, None, None, "torn"] * 5
    deciding = {kept["decision"]: kept for kept in reversed(records)}  # the first record of each
    assert [row["decision"] for row in decisions] == sorted(deciding) == list(range(5))  # 20 frames, 4 a second
    for row in decisions:
        kept = deciding[row["decision"]]
        about = {key: kept[key] for key in ("decision", "time", "u", "reason")}
        assert row == {"run": 1, **about, **kept["observed"]}
    (run,) = rows_of(tmp_path / "r.db", "runs")
    about = {"id": 1, "source": "noise", "bundle": "tiny", "digest": "00ff", "config": "[source]\n"}
    counts = {"captured": 20, "processed": 15, "dropped": 0, "failed": 5, "ended_by": "end"}
    assert run == {**about, **counts, "started": run["started"], "ended": run["ended"]}
    assert run["started"] <= run["ended"]


def test_the_tables_are_those_of_their_version(tmp_path: Path) -> None:
    """Whoever changes them, or the signals, must raise the version: an old file would not take the new rows."""
    with database(tmp_path / "r.db"):
        pass
    with closing(sqlite3.connect(tmp_path / "r.db")) as connection:
        columns = {
            table: " ".join(name for _, name, *_ in connection.execute(f"PRAGMA table_info({table})"))
            for table in ("runs", "decisions", "frames")
        }
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    assert (version, columns) == (
        3,
        {
            "runs": "id started source bundle digest config ended ended_by captured processed dropped failed",
            "decisions": "run decision time u reason "
            "soc on_mains power_in_w lux confidence temperature_c hour workload last_u day_of_year",
            "frames": "run frame name time u decision point_u blocks_run macs ms age_ms top1 confidence error "
            "asked_u fallback",
        },
    )


def test_rows_are_committed_about_once_a_second(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.db"
    with database(path, clock=clock) as results:
        for i in range(20):
            clock.now = 1000.0 + i / 8
            results.add(record(i, decision=i // 2))
            n_committed = 0 if i < 8 else 9 if i < 16 else 17  # at 1 s and at 2 s, with the frame that comes then
            assert seen_by_another(path) == list(range(n_committed))
            assert len(rows_of(path, "decisions")) == -(-n_committed // 2)
        clock.now = 1002.9
        results.commit_if_due()
        assert len(seen_by_another(path)) == 17
        clock.now = 1003.0
        results.commit_if_due()  # no frame comes
        assert seen_by_another(path) == list(range(20))
        results.add(record(20))
    assert seen_by_another(path) == list(range(21))


def test_another_program_reads_meanwhile_and_holds_nobody_up(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.db"
    with database(path, clock=clock) as results, open_results(path) as reader:
        results._connection.execute("PRAGMA busy_timeout = 1")
        reader.execute("BEGIN")
        n_before = reader.execute("SELECT count(*) FROM frames").fetchone()[0]
        for i in range(5):
            clock.now += 1.0
            results.add(record(i))
        assert len(seen_by_another(path)) == 5
        assert reader.execute("SELECT count(*) FROM frames").fetchone()[0] == n_before == 0  # one moment's picture
        reader.execute("COMMIT")
        assert reader.execute("SELECT count(*) FROM frames").fetchone()[0] == 5
        assert reader.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
        assert results._connection.execute("PRAGMA synchronous").fetchone()[0] == 2  # FULL: a commit is on the disk


def test_a_second_run_adds_to_the_file(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    for n in (3, 2):
        with database(path, Accounting(captured=n, processed=n)) as results:
            for i in range(n):
                results.add(record(i, decision=i))
    assert [(row["id"], row["captured"]) for row in rows_of(path, "runs")] == [(1, 3), (2, 2)]
    pairs = [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    assert [(row["run"], row["frame"]) for row in rows_of(path, "frames")] == pairs
    assert [(row["run"], row["decision"]) for row in rows_of(path, "decisions")] == pairs


def test_two_cameras_may_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    clock = Clock()
    with database(path, clock=clock) as one, database(path, clock=clock) as other:
        for i in range(6):
            clock.now += 0.6
            (one if i % 2 else other).add(record(i))
    assert sorted((row["run"], row["frame"]) for row in rows_of(path, "frames")) == [
        *((1, i) for i in (1, 3, 5)),
        *((2, i) for i in (0, 2, 4)),
    ]


def start_together(path: Path, n: int) -> None:
    """Cameras that open one file at the same moment, and write a frame each."""
    start = threading.Barrier(n)
    failures: list[TnnEdgeError] = []

    def camera() -> None:
        start.wait()
        try:
            with database(path) as results:
                results.add(record(0))
        except TnnEdgeError as err:
            failures.append(err)

    cameras = [threading.Thread(target=camera) for _ in range(n)]
    for thread in cameras:
        thread.start()
    for thread in cameras:
        thread.join()
    assert failures == []


def test_cameras_that_start_together_may_make_the_file_together(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    start_together(path, 6)
    assert [row["run"] for row in rows_of(path, "frames")] == [1, 2, 3, 4, 5, 6]


def test_a_killed_writer_leaves_every_committed_row(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    code = f"""
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from tests.device.test_database import Clock, database, record
clock = Clock()
results = database(Path({str(path)!r}), clock=clock)
for i in range(1000):
    clock.now += 0.01
    results.add(record(i, decision=i))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    frames = seen_by_another(path)
    assert frames == list(range(len(frames)))
    assert 890 <= len(frames) < 1000  # all but those of the last second, 100 of them
    assert [row["decision"] for row in rows_of(path, "decisions")] == frames
    (run,) = rows_of(path, "runs")
    assert (run["ended"], run["ended_by"], run["captured"]) == (None, None, None)
    with database(path) as results:
        results.add(record(0))
        assert results.run == 2
    assert len(seen_by_another(path)) == len(frames) + 1


def refusal(path: Path) -> str:
    before = path.read_bytes()
    with pytest.raises(InputError) as raised:
        database(path)
    assert path.read_bytes() == before  # nothing of somebody else's is changed
    with pytest.raises(InputError) as read, open_results(path):
        pass
    assert str(read.value) == str(raised.value)
    return str(raised.value)


@pytest.mark.parametrize("content", [b"{}\n", b'{"frame": 0}\n' * 1000, b"\x00" * 4096, b"SQLite format 4\x00" * 99])
def test_a_file_that_is_no_database_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.write_bytes(content)
    assert refusal(path) == f"{path} is no SQLite database; name another file"


def test_the_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE frames (id INTEGER)")
    assert refusal(path) == f"{path} is a database of another program; name another file"


def test_a_database_of_a_newer_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    with database(path):
        pass
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 4")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert refusal(path) == f"{path} has tables of version 4, this tnn-edge has 3; name another file"


def test_an_empty_file_becomes_a_database(tmp_path: Path) -> None:
    path = tmp_path / "r.db"
    path.touch()
    with database(path) as results:
        results.add(record(0))
    assert seen_by_another(path) == [0]


@pytest.mark.parametrize("where", ["{tmp}", "{tmp}/nowhere/r.db", "/proc/r.db"])
def test_a_place_where_no_file_can_be_is_one_clear_error(where: str, tmp_path: Path) -> None:
    path = Path(where.format(tmp=tmp_path))
    message = rf"^{path} cannot be written \(unable to open database file\); name another file$"
    with pytest.raises(TnnEdgeError, match=message):
        database(path)


def test_reading_asks_for_a_database_that_is_there(tmp_path: Path) -> None:
    missing = r"there is no file .*r\.db; `tnn-edge run CONFIG\.toml` writes one where"
    with pytest.raises(InputError, match=missing), open_results(tmp_path / "r.db"):
        pass
    assert not (tmp_path / "r.db").exists()
    with database(tmp_path / "r.db"):
        pass
    refusal = r"r\.db cannot be read \(attempt to write a readonly database\); move it away, or name another file"
    with pytest.raises(TnnEdgeError, match=refusal), open_results(tmp_path / "r.db") as reader:
        reader.execute("DELETE FROM runs")
    with open_results(tmp_path / "r.db") as reader:
        assert reader.execute("SELECT bundle FROM runs").fetchone()["bundle"] == "tiny"


def test_a_database_is_read_where_nothing_can_be_written() -> None:
    with tempfile.TemporaryDirectory() as name:  # unlike pytest's own, open to every user
        folder = Path(name)
        with database(folder / "r.db"):
            pass
        folder.chmod(0o555)
        with ordinary_user(), open_results(folder / "r.db") as reader:
            assert reader.execute("SELECT bundle FROM runs").fetchone()["bundle"] == "tiny"
        assert [path.name for path in folder.iterdir()] == ["r.db"]
        folder.chmod(0o755)


def test_a_full_disk_is_one_clear_error_and_what_was_committed_is_whole(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.db"
    message = r"r\.db cannot be written \(database or disk is full\); what was committed before is whole"
    n_added = 0

    def add_until_it_fails() -> None:
        nonlocal n_added
        with database(path, clock=clock) as results:
            results._connection.execute("PRAGMA max_page_count = 20")
            for n_added in range(10_000):
                clock.now += 0.1
                results.add(record(n_added, decision=n_added, error="e" * 100))

    with pytest.raises(TnnEdgeError, match=message):
        add_until_it_fails()
    frames = seen_by_another(path)
    assert frames == list(range(len(frames)))
    assert n_added - 20 <= len(frames) <= n_added < 1000
    assert [row["decision"] for row in rows_of(path, "decisions")] == frames


def test_rows_that_a_lock_held_up_are_written_when_it_is_gone(tmp_path: Path) -> None:
    clock, path = Clock(), tmp_path / "r.db"
    with database(path, clock=clock) as results:
        results._connection.execute("PRAGMA busy_timeout = 1")
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            clock.now += 1.0
            with pytest.raises(TnnEdgeError, match=r"r\.db cannot be written \(database is locked\); what was commi"):
                results.add(record(0))
        results.add(record(1))
        clock.now += 1.0
        results.commit_if_due()
        assert seen_by_another(path) == [0, 1]


def test_names_that_are_no_utf_8_are_told_as_on_the_lines(tmp_path: Path) -> None:
    odd = os.fsdecode(b"caf\xe9-\xff/\xe7\x8c\xab\n.png")
    shown = "caf\\xe9-\\xff/猫\n.png"
    results = database(tmp_path / "r.db", source=odd)
    results.add(record(0, name=odd, error=odd))
    results.__exit__(TnnEdgeError, TnnEdgeError(odd), None)
    (frame,) = rows_of(tmp_path / "r.db", "frames")
    (run,) = rows_of(tmp_path / "r.db", "runs")
    assert (frame["name"], frame["error"], run["source"]) == (shown, shown, shown)
    assert run["ended_by"] == f"TnnEdgeError: {shown}"


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (None, "end"),
        (TnnEdgeError("camera 0 is gone"), "TnnEdgeError: camera 0 is gone"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
    ],
)
def test_a_run_says_how_it_ended(failure: BaseException | None, said: str, tmp_path: Path) -> None:
    accounting = Accounting()
    with contextlib.suppress(TnnEdgeError, KeyboardInterrupt), database(tmp_path / "r.db", accounting) as results:
        results.add(record(0))
        accounting.captured, accounting.dropped, accounting.processed, accounting.failed = 10, 4, 5, 1
        if failure is not None:
            raise failure
    (run,) = rows_of(tmp_path / "r.db", "runs")
    counts = [run[name] for name in ("captured", "processed", "dropped", "failed")]
    assert (run["ended_by"], counts) == (said, [10, 5, 4, 1])
    assert seen_by_another(tmp_path / "r.db") == [0]


def test_what_ended_a_run_may_be_said_by_who_knows(tmp_path: Path) -> None:
    with database(tmp_path / "r.db") as results:
        results.ended_by = "signal 15"
    assert rows_of(tmp_path / "r.db", "runs")[0]["ended_by"] == "signal 15"
