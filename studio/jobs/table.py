"""Jobs table: schema, migration of older tables, and a row as an object."""

import json
import sqlite3
from dataclasses import dataclass

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

ORDER = "COALESCE(place, id)"
"""Queue order: by id, unless the user has moved the job."""


def prepare(connection: sqlite3.Connection) -> None:
    """Create or migrate the table. Must not run in two processes at once."""
    connection.executescript(SCHEMA)
    present = {row["name"] for row in connection.execute("PRAGMA table_info(jobs)")}
    for name, kind in ADDED.items():
        if name not in present:
            connection.execute(f"ALTER TABLE jobs ADD COLUMN {name} {kind}")


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
