"""Results in an SQLite file, so that months of them can be asked for an hour."""

from __future__ import annotations

import os
import re
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from tnn_edge.camera.accounting import Accounting
from tnn_edge.camera.pipeline import Record
from tnn_edge.camera.result_tables import make_tables, show_tables
from tnn_edge.errors import InputError, TnnEdgeError
from tnn_edge.printable import printable

__all__ = ["ResultDatabase", "files_of", "open_results"]

_NO_UNICODE = re.compile("[\ud800-\udfff]")


class ResultDatabase:
    """Writes one run into an SQLite file, which other programs may read meanwhile (write-ahead log).

    Rows are committed about once a second, so that a power cut takes no more than that; a kill of the program alone
    takes no committed row. `frames` has a row per record, `decisions` the observation behind it, `runs` the accounting.

    Attributes:
        run: number of this run.
        ended_by: what ended it; None for the source's end, or for the error that leaves `with`.

    Args:
        path: the file; made where it is missing, added to where it is ours.
        source: in words.
        bundle: its name.
        digest: its identity.
        config: text of the configuration.
        accounting: of the run; noted when it ends.
        commit_period_s: seconds between two commits, each of which waits for the disk.
        clock: seconds, monotonic.

    Raises:
        InputError: the file is something else.
        TnnEdgeError: it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: str,
        bundle: str,
        digest: str,
        config: str,
        accounting: Accounting,
        commit_period_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = path
        self.ended_by: str | None = None
        self._accounting = accounting
        self._commit_period_s = commit_period_s
        self._clock = clock
        self._frames: list[dict[str, Any]] = []
        self._decisions: list[dict[str, Any]] = []
        self._last_decision = -1
        with _told(path, "written", "name another file"):
            self._connection = _connect(path)
            try:
                make_tables(self._connection, path)
                # NORMAL would leave commits to the system's cache, and a power cut would take those of half a minute.
                self._connection.execute("PRAGMA synchronous = FULL")
                run = {"started": _now(), "source": source, "bundle": bundle, "digest": digest, "config": config}
                self.run = self._insert("runs", [run])
            except BaseException:
                self._connection.close()
                raise
        self._committed_s = clock()

    def __enter__(self) -> ResultDatabase:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._commit()
            self._end(self.ended_by or _ending(exc))
        except TnnEdgeError:
            if exc is None:  # else the first error is the one to tell
                raise
        finally:
            self._connection.close()

    def add(self, record: Record) -> None:
        """Take one record in."""
        row: dict[str, Any] = {"run": self.run, **record}
        observed = row.pop("observed", None)
        reason = row.pop("reason", None)
        decision = row.get("decision")
        if decision is not None and decision > self._last_decision:
            self._last_decision = decision
            head = {"run": self.run, "decision": decision, "time": row["time"], "u": row["u"], "reason": reason}
            self._decisions.append(head | dict(observed or {}))
        self._frames.append(row)
        self.commit_if_due()

    def commit_if_due(self) -> None:
        """Write what has been waiting for a second; to be called too while no frame comes."""
        if self._clock() - self._committed_s >= self._commit_period_s:
            self._commit()

    def _end(self, ended_by: str) -> None:
        counts = {name: getattr(self._accounting, name) for name in ("captured", "processed", "dropped", "failed")}
        row = {"ended": _now(), "ended_by": _storable(ended_by), **counts, "id": self.run}
        sets = ", ".join(f"{name} = :{name}" for name in row if name != "id")
        with self._guard():
            self._connection.execute(f"UPDATE runs SET {sets} WHERE id = :id", row)  # noqa: S608 -- our own names

    def _commit(self) -> None:
        self._committed_s = self._clock()
        if not self._frames:
            return
        with self._guard():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                self._insert("decisions", self._decisions)
                self._insert("frames", self._frames)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:  # a full disk may have ended it
                    self._connection.execute("ROLLBACK")
                raise
        self._frames, self._decisions = [], []

    def _insert(self, table: str, rows: list[dict[str, Any]]) -> int:
        """Insert rows, in which a missing column is unknown; the last row's number."""
        cursor = self._connection.cursor()
        for row in rows:
            names = ", ".join(row)
            marks = ", ".join(f":{name}" for name in row)
            values = {name: _storable(value) for name, value in row.items()}
            cursor.execute(f"INSERT INTO {table} ({names}) VALUES ({marks})", values)  # noqa: S608 -- our own names
        return cursor.lastrowid or 0

    @contextmanager
    def _guard(self) -> Iterator[None]:
        with _told(self.path, "written", "what was committed before is whole"):
            yield


def files_of(database: Path) -> tuple[Path, ...]:
    """The files of a database: SQLite has two more beside it while it is open."""
    return (database, *(database.with_name(f"{database.name}{end}") for end in ("-wal", "-shm")))


@contextmanager
def open_results(path: Path) -> Iterator[sqlite3.Connection]:
    """A result database to read from; rows come as `sqlite3.Row`.

    Raises:
        InputError: there is no such file, or it is something else.
        TnnEdgeError: it cannot be read, in the body of `with` too.
    """
    if not os.path.isfile(path):  # noqa: PTH113 -- unlike Path.is_file it raises nothing where one may not look
        raise InputError(f"there is no file {path}; `tnn-edge run CONFIG.toml` writes one where [output] has database")
    address = f"{path.absolute().as_uri()}?{_way_to_read(path)}"
    with (
        _told(path, "read", "move it away, or name another file"),
        closing(sqlite3.connect(address, uri=True)) as connection,
    ):
        connection.row_factory = sqlite3.Row
        show_tables(connection, path)
        connection.execute("PRAGMA query_only = ON")
        yield connection


def _way_to_read(path: Path) -> str:
    """How SQLite is to open a file to read from it."""
    if _may_write(path) and _may_write(path.absolute().parent):
        return "mode=rw"  # the last to close a database tidies its log up
    # Without a log nobody writes; SQLite would make one all the same, where it may not.
    return "mode=ro" if files_of(path)[1].exists() else "mode=ro&immutable=1"


def _may_write(path: Path) -> bool:
    return os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids)


def _connect(path: Path) -> sqlite3.Connection:
    # Transactions are begun and ended by hand: what the module begins by itself depends on the statement.
    connection = sqlite3.connect(path, isolation_level=None, timeout=5.0)
    connection.row_factory = sqlite3.Row
    return connection


@contextmanager
def _told(path: Path, what: str, way_out: str) -> Iterator[None]:
    """Turn the errors of SQLite into ours."""
    try:
        yield
    except sqlite3.Error as err:
        if "not a database" in str(err):
            raise InputError(f"{path} is no SQLite database; name another file") from err
        raise TnnEdgeError(f"{path} cannot be {what} ({err}); {way_out}") from err


def _ending(exc: BaseException | None) -> str:
    return "end" if exc is None else f"{type(exc).__name__}: {exc}".removesuffix(": ")


def _storable(value: Any) -> Any:
    """What SQLite takes: in text a byte of a file's name that is no UTF-8 becomes an escape, as on the lines."""
    return _NO_UNICODE.sub(lambda found: printable(found[0]), value) if isinstance(value, str) else value


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z")
