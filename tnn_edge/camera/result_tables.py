"""The tables of a result database, and what an older one lacks."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from tnn_edge.control import SIGNALS
from tnn_edge.errors import InputError

__all__ = ["make_tables", "show_tables"]

_APPLICATION_ID = 0x746E6E65
"""Marks the file as ours: "tnne"."""

_VERSION = 3
"""Of the tables, in the file's `user_version`."""

_RUN = "started TEXT NOT NULL, source TEXT NOT NULL, bundle TEXT NOT NULL, digest TEXT NOT NULL, config TEXT NOT NULL"
_END = "ended TEXT, ended_by TEXT, captured INTEGER, processed INTEGER, dropped INTEGER, failed INTEGER"
_DECISION = "run INTEGER NOT NULL, decision INTEGER NOT NULL, time TEXT NOT NULL, u REAL NOT NULL, reason TEXT"
_FRAME = (
    "run INTEGER NOT NULL, frame INTEGER NOT NULL, name TEXT NOT NULL, time TEXT NOT NULL, u REAL NOT NULL, "
    "decision INTEGER, point_u REAL, blocks_run INTEGER, macs INTEGER, ms REAL, age_ms REAL, top1 TEXT, "
    "confidence REAL, error TEXT"
)
_ADDED = (
    (2, "frames", "asked_u", "REAL"),
    (2, "frames", "fallback", "TEXT"),
    (3, "decisions", "day_of_year", "REAL"),
)
"""Columns with the version that brought them, the last of their tables; what is older has them unknown."""


def _added(table: str) -> str:
    return ", ".join(f"{column} {kind}" for _, owner, column, kind in _ADDED if owner == table)


_SIGNALS = ", ".join(f"{name} REAL" for name in SIGNALS if name not in {column for _, _, column, _ in _ADDED})
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS runs (id INTEGER PRIMARY KEY, {_RUN}, {_END}) STRICT;
CREATE TABLE IF NOT EXISTS decisions ({_DECISION}, {_SIGNALS}, {_added("decisions")},
    PRIMARY KEY (run, decision)) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS frames ({_FRAME}, {_added("frames")}, PRIMARY KEY (run, frame)) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS frames_by_time ON frames (time);
PRAGMA application_id = {_APPLICATION_ID};
PRAGMA user_version = {_VERSION};
"""


def make_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make the tables of a new file; make sure that an old one is ours, and add what it lacks.

    Raises:
        InputError: the file is something else.
    """
    if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        version = _check(connection, path)
        connection.execute("PRAGMA journal_mode = WAL")
        if version < _VERSION:
            _renew(connection)
    else:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")


def show_tables(connection: sqlite3.Connection, path: Path) -> None:
    """Make sure that a file is ours, and let an older one be read like a new one; the file stays as it is.

    Raises:
        InputError: the file is something else.
    """
    found = _check(connection, path)
    lacking: dict[str, list[str]] = {}
    for version, table, column, _ in _ADDED:
        if found < version:
            lacking.setdefault(table, []).append(f"NULL AS {column}")
    for table, columns in lacking.items():
        connection.execute(f"CREATE TEMP VIEW {table} AS SELECT *, {', '.join(columns)} FROM main.{table}")  # noqa: S608


def _check(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the tables."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION_ID:
        raise InputError(f"{path} is a database of another program; name another file")
    version = _version(connection)
    if not 1 <= version <= _VERSION:
        raise InputError(f"{path} has tables of version {version}, this tnn-edge has {_VERSION}; name another file")
    return version


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _renew(connection: sqlite3.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        found = _version(connection)  # another camera on this file may have been faster
        for version, table, column, kind in _ADDED:
            if found < version:
                connection.execute(f"ALTER TABLE {table} ADD COLUMN {column} {kind}")
        connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
