"""Jobs table in SQLite: schema, migration of older tables, a row as an object, and a connection for each thread and process."""

import contextlib
import json
import logging
import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from studio.core import storage
from studio.core.errors import StudioError
from studio.core.locks import FileLock, OpenMark
from studio.core.workspace import CHOOSE_ANOTHER_HOME, SET_ASIDE

log = logging.getLogger(__name__)

SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, owner TEXT NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL DEFAULT 'waiting', key TEXT,
    payload TEXT NOT NULL, result TEXT NOT NULL DEFAULT '{}',
    done INTEGER NOT NULL DEFAULT 0, total INTEGER NOT NULL DEFAULT 0, seconds_left REAL, message TEXT NOT NULL DEFAULT '',
    error TEXT NOT NULL DEFAULT '', created REAL NOT NULL, started REAL, finished REAL, ticks REAL, seconds REAL,
    pid INTEGER, mark TEXT, attempts INTEGER NOT NULL DEFAULT 0, cancel INTEGER NOT NULL DEFAULT 0, place INTEGER);
CREATE UNIQUE INDEX IF NOT EXISTS one_unfinished_job_a_key ON jobs (owner, key) WHERE key IS NOT NULL AND state IN ('waiting', 'running');
CREATE INDEX IF NOT EXISTS unfinished ON jobs (state, kind, id) WHERE state IN ('waiting', 'running');
"""
ADDED = {"place": "INTEGER"}
"""Columns added after the first release. Each may be NULL, so that an older studio can still write to the same file."""

BUSY_SECONDS = 30
"""How long a statement waits for another process's transaction."""

ORDER = "COALESCE(place, id)"
"""Queue order: by id, unless the user has moved the job."""


def prepare(connection: sqlite3.Connection) -> None:
    """Create or migrate the table. Must not run in two processes at once."""
    connection.executescript(SCHEMA)
    present = {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}
    for name, kind in ADDED.items():
        if name not in present:
            connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")


def set_aside(database: Path, reason: str) -> Path:
    """Move a damaged database with SQLite's files beside it into a folder of its own. Nothing is deleted; the doctor and the page mention it."""
    folder = database.parent / SET_ASIDE / f"{database.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    folder.mkdir(parents=True)
    for path in (database, database.with_name(f"{database.name}-wal"), database.with_name(f"{database.name}-shm")):
        if path.exists():
            storage.move(path, folder / path.name)
    log.warning("the job database was damaged (%s) and is now in %s/%s; a new one was made", reason, SET_ASIDE, folder.name)
    return folder


@dataclass(frozen=True)
class Job:
    """One row. `created`, `started` and `finished` are wall-clock times; `seconds` is measured with a monotonic clock."""

    id: int
    owner: str
    kind: str
    state: str
    payload: dict
    result: dict
    done: int
    total: int
    seconds_left: float | None
    message: str
    error: str
    created: float
    started: float | None
    finished: float | None
    seconds: float | None
    pid: int | None
    mark: str | None
    attempts: int
    cancel_requested: bool

    @property
    def unfinished(self) -> bool:
        return self.state in ("waiting", "running")


def as_job(row: sqlite3.Row) -> Job:
    values = {name: row[name] for name in Job.__dataclass_fields__ if name != "cancel_requested"}
    return Job(**{**values, "payload": json.loads(row["payload"]), "result": json.loads(row["result"])}, cancel_requested=bool(row["cancel"]))


class _Connection(threading.local):
    """sqlite3 requires one connection per thread; a forked child must not use its parent's connection, hence the pid."""

    connection: sqlite3.Connection | None = None
    pid: int | None = None


class Table:
    """The table in one file, for several processes and threads."""

    def __init__(self, database: Path):
        self.database = database
        self.database.parent.mkdir(parents=True, exist_ok=True)
        self._own = _Connection()
        try:
            # Two processes that switch a new file to WAL can deadlock, for which SQLite raises an error instead of waiting.
            with FileLock(self.database.with_suffix(".setup"), "The job database", wait=True):
                self._open_or_replace()
            # PRAGMA data_version counts writes of *other* connections, so `data_version` needs a connection that never writes.
            self._watch = self._connect(check_same_thread=False)
        except sqlite3.OperationalError as error:
            raise StudioError(
                f"The job database {database} cannot be used: {error}. Another program may have it open, or it is on a network drive, where "
                f"SQLite does not work reliably. Close other programs that use it. {CHOOSE_ANOTHER_HOME}"
            ) from error
        self._watch_lock = threading.Lock()

    def _open_or_replace(self) -> None:
        """A damaged database is set aside, never while another process has it open: that one would go on with the old file."""
        mark = OpenMark(self.database.with_suffix(".open"))
        try:
            self._prepare()
        except sqlite3.DatabaseError as error:
            self._own = _Connection()
            if not self._is_damaged(error):
                raise
            if not mark.only_here():
                raise StudioError(
                    f"The job database {self.database} is damaged: {error}. Another process of the studio has it open. End the studio, its commands "
                    "and its worker, then start again: the database is then set aside, and datasets, runs and LoRAs are kept."
                ) from error
            set_aside(self.database, str(error))
            mark.close()
            mark = OpenMark(self.database.with_suffix(".open"))
            self._prepare()
        self._open_mark = mark

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA journal_mode = WAL")
        prepare(self._connection)
        found = self._connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise sqlite3.DatabaseError(found)

    def _is_damaged(self, error: sqlite3.DatabaseError) -> bool:
        """A folder in its place cannot be opened; every other error of opening is about access or locks, and the file may be whole."""
        return self.database.is_dir() or not isinstance(error, sqlite3.OperationalError)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Exclusive transaction: no other process writes during the block, and an exception rolls it back."""
        with storage.saving("the list of jobs"):
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                yield

    def fetch_all(self, sql: str, *values) -> list[sqlite3.Row]:
        # Not one row at a time: a RETURNING statement holds the write lock until its last row is read.
        with storage.saving("the list of jobs"):
            return self._connection.execute(sql, values).fetchall()

    def fetch_one(self, sql: str, *values) -> sqlite3.Row | None:
        rows = self.fetch_all(sql, *values)
        return rows[0] if rows else None

    def write(self, sql: str, *values) -> bool:
        """Whether any row was changed."""
        with storage.saving("the list of jobs"):
            return self._connection.execute(sql, values).rowcount > 0

    def data_version(self) -> int:
        """A number that changes when another process or thread writes."""
        with self._watch_lock:
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    @property
    def _connection(self) -> sqlite3.Connection:
        connection = self._own.connection
        if connection is None or self._own.pid != os.getpid():
            connection = self._own.connection = self._connect()
            self._own.pid = os.getpid()
        return connection

    def _connect(self, check_same_thread: bool = True) -> sqlite3.Connection:
        connection = sqlite3.connect(self.database, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=check_same_thread)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection
