"""A database that an older version made: read as it is, and added to."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.device.camera_folder import rows_of
from tests.device.test_database import database, record, start_together
from tnn_edge.camera.database import open_results
from tnn_edge.camera.results_page import write_page
from tnn_edge.errors import InputError

VERSION_1 = """
CREATE TABLE runs (id INTEGER PRIMARY KEY, started TEXT NOT NULL, source TEXT NOT NULL, bundle TEXT NOT NULL,
    digest TEXT NOT NULL, config TEXT NOT NULL, ended TEXT, ended_by TEXT, captured INTEGER, processed INTEGER,
    dropped INTEGER, failed INTEGER) STRICT;
CREATE TABLE decisions (run INTEGER NOT NULL, decision INTEGER NOT NULL, time TEXT NOT NULL, u REAL NOT NULL,
    reason TEXT, soc REAL, on_mains REAL, power_in_w REAL, lux REAL, confidence REAL, temperature_c REAL, hour REAL,
    workload REAL, last_u REAL, PRIMARY KEY (run, decision)) STRICT, WITHOUT ROWID;
CREATE TABLE frames (run INTEGER NOT NULL, frame INTEGER NOT NULL, name TEXT NOT NULL, time TEXT NOT NULL,
    u REAL NOT NULL, decision INTEGER, point_u REAL, blocks_run INTEGER, macs INTEGER, ms REAL, age_ms REAL, top1 TEXT,
    confidence REAL, error TEXT, PRIMARY KEY (run, frame)) STRICT, WITHOUT ROWID;
CREATE INDEX frames_by_time ON frames (time);
PRAGMA application_id = 1953394277;
PRAGMA user_version = 1;
INSERT INTO runs VALUES (1, '2026-01-01T00:00:00Z', 'noise', 'tiny', '00ff', '', '2026-01-01T00:00:09Z', 'end', 2, 2,
    0, 0);
INSERT INTO decisions (run, decision, time, u, reason, soc) VALUES (1, 0, '2026-01-01T00:00:00Z', 0.5, 'normal', 0.5);
INSERT INTO frames VALUES (1, 0, 'a', '2026-01-01T00:00:00Z', 0.5, 0, 0.4, 3, 2000000, 1.5, 2.5, 'cat', 0.75, NULL);
INSERT INTO frames VALUES (1, 1, 'b', '2026-01-01T00:00:01Z', 0.5, 0, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'torn');
"""
"""As the first version made it."""


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "r.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(VERSION_1)
    return path


def schema(path: Path) -> list[tuple[str, list[str]]]:
    """Version of the tables, and the columns of each."""
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        tables = ("runs", "decisions", "frames")
        columns = [[row[1] for row in connection.execute(f"PRAGMA table_info({table})")] for table in tables]
    return [(str(version), names) for names in columns]


def test_an_older_database_is_read_and_stays_as_it_is(old: Path) -> None:
    before = old.read_bytes()
    with open_results(old) as connection:
        rows = connection.execute("SELECT frame, point_u, asked_u, fallback, error FROM frames").fetchall()
        assert tuple(connection.execute("SELECT soc, day_of_year FROM decisions").fetchone()) == (0.5, None)
    assert [tuple(row) for row in rows] == [(0, 0.4, None, None, None), (1, None, None, None, "torn")]
    assert old.read_bytes() == before


def test_an_older_database_that_may_only_be_read_is_read(old: Path) -> None:
    old.chmod(0o444)
    old.parent.chmod(0o555)
    try:
        with open_results(old) as connection:
            assert connection.execute("SELECT count(*) FROM frames WHERE asked_u IS NULL").fetchone()[0] == 2
    finally:
        old.parent.chmod(0o755)


def test_an_older_database_has_a_page(old: Path) -> None:
    pytest.importorskip("matplotlib")
    page = old.with_name("page.html")
    assert write_page(old, page) == 1
    assert "lower operating point" not in page.read_text()


def test_a_run_adds_to_an_older_database_and_keeps_its_rows(old: Path, tmp_path: Path) -> None:
    frames, decisions = rows_of(old, "frames"), rows_of(old, "decisions")
    with database(old) as results:
        assert results.run == 2
        results.add(record(0, asked_u=0.8, point_u=0.4, fallback="no driver"))
    *kept, added = rows_of(old, "frames")
    assert kept == [{**row, "asked_u": None, "fallback": None} for row in frames]
    assert (added["run"], added["asked_u"], added["point_u"], added["fallback"]) == (2, 0.8, 0.4, "no driver")
    assert rows_of(old, "decisions")[:1] == [{**row, "day_of_year": None} for row in decisions]
    with database(tmp_path / "new.db"):
        pass
    assert schema(old) == schema(tmp_path / "new.db")


def test_cameras_that_start_together_may_renew_the_file_together(old: Path) -> None:
    start_together(old, 6)
    assert [row["run"] for row in rows_of(old, "frames")] == [1, 1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("version", [0, 4])
def test_tables_of_no_known_version_are_refused(version: int, old: Path) -> None:
    with closing(sqlite3.connect(old)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    message = rf"r\.db has tables of version {version}, this tnn-edge has 3; name another file$"
    with pytest.raises(InputError, match=message):
        database(old)
    with pytest.raises(InputError, match=message), open_results(old):
        pass
