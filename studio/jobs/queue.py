"""The queue: every long thing is a row in one SQLite file with a process behind it, so that no tab, server or crash can lose it.

Two lanes. The device lane (caption, generate, train) is claimed by the one resident worker; each job of the direct lane gets a
process of its own, `python -m studio.jobs.process DATABASE JOB`, which runs the kind's function.
"""

import contextlib
import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from studio.core import platform
from studio.core.errors import StudioError
from studio.jobs.table import ORDER, Job, as_job, prepare

DEVICE_KINDS = ("generate", "caption", "train")
DIRECT_KINDS = {
    "import": "studio.jobs.imports:import_images",
    "adapter": "studio.jobs.imports:import_adapters",
    "download": "studio.jobs.imports:download_adapter",
    "publish": "studio.publishing.send:publish_job",
    "estimate": "studio.jobs.estimates:estimate_job",
}
"""kind -> the function(home, job, report, secret) -> result dict that a direct job's process imports and runs."""

UNFINISHED = ("waiting", "running")
MOVES = ("first", "up", "down")
RETRY_AFTER_CRASH = ("generate", "caption")
"""Kinds that may simply be run again. The others wait for a person: of a publish job the token is gone, and half an import is there."""
MAX_TRAININGS, MAX_UNFINISHED = 1, 8
"""What one visitor of a Space may have in the queue, where everybody shares one machine. Who is alone with the studio has no limit."""
MAX_ATTEMPTS = 3
START_TIMEOUT_SECONDS = 60
"""A direct job whose process never showed up by then was lost between the row and the start."""


class _Connection(threading.local):
    """One connection a thread is sqlite3's own rule; a forked child must not use its parent's either, hence the pid."""

    connection: sqlite3.Connection | None = None
    pid: int | None = None


class Jobs:
    """The queue in one file. Safe to use from many processes and threads at once."""

    def __init__(self, database: Path):
        self.database = Path(database)
        self.database.parent.mkdir(parents=True, exist_ok=True)
        self._own = _Connection()
        # Two that switch a new file to WAL at once can deadlock, which SQLite answers with an error instead of waiting.
        with platform.FileLock(self.database.with_suffix(".setup"), "The job database", wait=True):
            self._connection.execute("PRAGMA journal_mode = WAL")
            prepare(self._connection)
        # PRAGMA data_version counts what *other* connections wrote, so `changes` needs one of its own that never writes.
        self._watch = self._connect(check_same_thread=False)
        self._watch_lock = threading.Lock()

    def submit(self, owner: str, kind: str, payload: dict, key: str | None = None) -> Job:
        """Put a job in the queue. While a job of this owner with the same key is unfinished, that one is returned instead.

        StudioError when a visitor of a Space has as many as fit there beside the others'.
        """
        return self.submit_all(owner, kind, [(payload, key)])[0]

    def submit_all(self, owner: str, kind: str, wanted: Sequence[tuple[dict, str | None]]) -> Sequence[Job]:
        """Several (payload, key) at once, in this order: all of them, or with a StudioError none."""
        if kind not in DEVICE_KINDS and kind not in DIRECT_KINDS:
            raise StudioError(f"Unknown kind of job {kind!r}; known kinds: {', '.join((*DEVICE_KINDS, *DIRECT_KINDS))}.")
        found = []
        with self._transaction():
            for payload, key in wanted:
                row = self._fetch_one("SELECT * FROM jobs WHERE owner = ? AND key = ? AND state IN ('waiting', 'running')", owner, key)
                if row is None:
                    self._refuse_beyond_quota(owner, kind)
                    values = (owner, kind, json.dumps(payload), key, time.time())
                    row = self._fetch_one("INSERT INTO jobs (owner, kind, payload, key, created) VALUES (?, ?, ?, ?, ?) RETURNING *", *values)
                found.append(as_job(row))
        return found

    def _refuse_beyond_quota(self, owner: str, kind: str) -> None:
        if owner == "local":
            return
        kinds = [job.kind for job in self.list(owner, states=UNFINISHED)]
        if kind == "train" and kinds.count("train") >= MAX_TRAININGS:
            raise StudioError("A visitor has one training at a time here, and yours is not over yet. Wait for it, or stop it first.")
        if len(kinds) >= MAX_UNFINISHED:
            raise StudioError(f"You have {len(kinds)} jobs that wait or run, as many as one visitor may have here. Wait for one, or stop one.")

    def start(self, job: Job, secret: bytes | None = None) -> Job:
        """Give a direct job its process. The secret (a token) goes to its stdin and is written nowhere."""
        if job.kind not in DIRECT_KINDS:
            raise StudioError(f"A {job.kind} job is done by the resident worker, not by a process of its own.")
        if job.state != "waiting" or job.pid:
            return job
        log = self.database.parent / "logs" / f"job-{job.id}.log"
        child = platform.spawn(
            platform.module_command("studio.jobs.process", self.database, job.id),
            log,
            secret=secret or b"",
            on_exit=lambda status: self.mark_lost(job.id, status),
        )
        self._write("UPDATE jobs SET pid = ?, mark = ? WHERE id = ? AND state = 'waiting'", child.pid, platform.start_mark(child.pid), job.id)
        return self.get(job.id)

    def get(self, job_id: int) -> Job:
        row = self._fetch_one("SELECT * FROM jobs WHERE id = ?", job_id)
        if row is None:
            raise StudioError(f"There is no job {job_id}; look at the list of jobs.")
        return as_job(row)

    def list(
        self, owner: str | None = None, kinds: Iterable[str] | None = None, states: Iterable[str] | None = None, limit: int = 50
    ) -> Sequence[Job]:
        """Newest first."""
        where, values = ["1"], []
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        for column, wanted in (("kind", kinds), ("state", states)):
            if wanted is not None:
                wanted = list(wanted)
                where.append(f"{column} IN ({', '.join('?' * len(wanted))})")
                values += wanted
        rows = self._connection.execute(f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", (*values, limit))
        return [as_job(row) for row in rows]

    def queue(self, kinds: Iterable[str] = DEVICE_KINDS) -> Sequence[Job]:
        """What runs, then what waits, in the order in which it will be taken; of every owner, since they share the device."""
        kinds = list(kinds)
        chosen = f"state IN ('waiting', 'running') AND kind IN ({', '.join('?' * len(kinds))})"
        return [as_job(row) for row in self._connection.execute(f"SELECT * FROM jobs WHERE {chosen} ORDER BY state = 'waiting', {ORDER}", kinds)]

    def move(self, job_id: int, where: str) -> None:
        """Put a waiting job first, one up or one down among its owner's waiting jobs of its kind.

        They change places with each other only, so that nobody gets ahead of somebody else. StudioError when it waits no longer.
        """
        if where not in MOVES:
            raise StudioError(f"{where!r} is no direction to move a job in; choose one of {', '.join(MOVES)}.")
        with self._transaction():
            job = self.get(job_id)
            if job.state != "waiting":
                raise StudioError(f"Job {job_id} does not wait any more (it is {job.state}), so it has no place in the queue.")
            waiting = f"SELECT id, {ORDER} AS place FROM jobs WHERE state = 'waiting' AND owner = ? AND kind = ? ORDER BY place"
            rows = self._connection.execute(waiting, (job.owner, job.kind)).fetchall()
            ids = [row["id"] for row in rows]
            at = ids.index(job_id)
            ids.insert({"first": 0, "up": max(at - 1, 0), "down": at + 1}[where], ids.pop(at))
            for row, moved in zip(rows, ids):
                self._write("UPDATE jobs SET place = ? WHERE id = ?", row["place"], moved)

    def claim(self, kinds: Iterable[str], pid: int) -> Job | None:
        """Take the first waiting job of these kinds. One statement, so that no two processes ever get the same job."""
        kinds = list(kinds)
        first = f"SELECT id FROM jobs WHERE state = 'waiting' AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY {ORDER} LIMIT 1"
        return self._take(first, kinds, pid)

    def claim_one(self, job_id: int, pid: int) -> Job | None:
        """Take this very job; None when it was cancelled meanwhile or another process has it."""
        return self._take("SELECT id FROM jobs WHERE state = 'waiting' AND id = ?", [job_id], pid)

    def _take(self, choose: str, values: Sequence, pid: int) -> Job | None:
        row = self._fetch_one(
            f"""UPDATE jobs SET state = 'running', started = ?, ticks = ?, pid = ?, mark = ?, attempts = attempts + 1,
            done = 0, total = 0, seconds_left = NULL, message = '' WHERE id = ({choose}) AND state = 'waiting' RETURNING *""",
            *(time.time(), time.monotonic(), pid, platform.start_mark(pid), *values),
        )
        return as_job(row) if row else None

    def set_process(self, job_id: int, pid: int) -> None:
        """From now on process `pid` stands behind this running job: it lives on when the one that claimed it dies."""
        self._write("UPDATE jobs SET pid = ?, mark = ? WHERE id = ? AND state = 'running'", pid, platform.start_mark(pid), job_id)

    def progress(self, job_id: int, done: int, total: int, seconds_left: float | None = None, message: str = "") -> None:
        self._write(
            "UPDATE jobs SET done = ?, total = ?, seconds_left = ?, message = ? WHERE id = ? AND state = 'running'",
            *(done, total, seconds_left, message, job_id),
        )

    def finish(self, job_id: int, result: dict) -> bool:
        """Done. False when the job was not running any more, as with the three below."""
        return self._close(job_id, "done", result=result)

    def fail(self, job_id: int, message: str) -> bool:
        return self._close(job_id, "failed", error=message)

    def interrupt(self, job_id: int, message: str, result: dict | None = None) -> bool:
        """It ended without being asked to; nothing is wrong with the job itself."""
        return self._close(job_id, "interrupted", error=message, result=result)

    def mark_cancelled(self, job_id: int, result: dict | None = None) -> bool:
        """What runs the job says that it has stopped."""
        return self._close(job_id, "cancelled", result=result)

    def _close(self, job_id: int, state: str, error: str = "", result: dict | None = None) -> bool:
        now = time.monotonic()
        return self._write(
            "UPDATE jobs SET state = ?, error = ?, result = ?, seconds_left = NULL, finished = ?, seconds = MAX(0, ? - ticks)"
            " WHERE id = ? AND state = 'running'",
            *(state, error, json.dumps(result or {}), time.time(), now, job_id),
        )

    def cancel(self, job_id: int) -> Job:
        """A waiting job is cancelled at once; a running one is asked to stop and looks for that by itself."""
        self._write("UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state = 'waiting'", time.time(), job_id)
        self._write("UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", job_id)
        return self.get(job_id)

    def cancel_requested(self, job_id: int) -> bool:
        row = self._fetch_one("SELECT cancel FROM jobs WHERE id = ?", job_id)
        return bool(row and row["cancel"])

    def mark_lost(self, job_id: int, status: int | None = None) -> None:
        """The process behind a direct job has ended. If it could not say how, say it for it."""
        how = "" if status is None else f" (killed by signal {-status})" if status < 0 else f" (exit status {status})"
        message = f"The process doing this ended unexpectedly{how}; nothing else was touched. Try again."
        if not self.interrupt(job_id, message):
            self._write(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE id = ? AND state = 'waiting'",
                *(f"The process for this could not start{how}; see logs/job-{job_id}.log in the studio's folder.", time.time(), job_id),
            )

    def recover(self) -> Sequence[Job]:
        """Look after jobs whose process is gone: again from the start, up to three times, or interrupted. Returns those.

        Running trainings are left alone: their process outlives the worker, and how they ended stands in their run, where the worker looks.
        """
        orphans = []
        for row in self._connection.execute("SELECT * FROM jobs WHERE state IN ('waiting', 'running')").fetchall():
            job = as_job(row)
            never_appeared = job.kind in DIRECT_KINDS and (job.pid or time.time() - job.created > START_TIMEOUT_SECONDS)
            if platform.alive(job.pid, job.mark) or job.kind == "train" or (job.state == "waiting" and not never_appeared):
                continue
            if job.kind in RETRY_AFTER_CRASH:
                self._requeue(job)
            else:
                self.mark_lost(job.id)
            orphans.append(job)
        return [self.get(job.id) for job in orphans]

    def _requeue(self, job: Job) -> None:
        if job.cancel_requested:
            self.mark_cancelled(job.id)
        elif job.attempts < MAX_ATTEMPTS:
            # The count of attempts says that nobody else has taken care of it since we looked.
            again = "UPDATE jobs SET state = 'waiting', pid = NULL, mark = NULL WHERE id = ? AND state = 'running' AND attempts = ?"
            self._write(again, job.id, job.attempts)
        else:
            self.fail(job.id, f"This ended the worker {job.attempts} times, so it is not tried again; see logs/worker.log in the studio's folder.")

    def fail_waiting(self, kinds: Iterable[str], message: str) -> None:
        """Fail every waiting job of these kinds: there is nobody to do them."""
        for job in self.list(kinds=kinds, states=("waiting",), limit=1000):
            self._write("UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE id = ? AND state = 'waiting'", message, time.time(), job.id)

    def delete_old(self, days: float = 30) -> None:
        """Leave out finished jobs that old. Trainings stay: they say how their run ended."""
        self._write("DELETE FROM jobs WHERE finished < ? AND kind != 'train'", time.time() - days * 86400)

    def changes(self) -> int:
        """A number that differs from the last one when any job changed since. Microseconds; compare within one Jobs object only."""
        with self._watch_lock:
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """What is read and written inside belongs together: nobody else writes meanwhile, and an error undoes all of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            yield

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._own.pid != os.getpid():
            self._own.connection = self._connect()
            self._own.pid = os.getpid()
        return self._own.connection

    def _connect(self, check_same_thread: bool = True) -> sqlite3.Connection:
        connection = sqlite3.connect(self.database, timeout=30, isolation_level=None, check_same_thread=check_same_thread)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = NORMAL")
        return connection

    def _fetch_one(self, sql: str, *values) -> sqlite3.Row | None:
        # fetchall: a RETURNING statement holds the write lock until its last row is read.
        rows = self._connection.execute(sql, values).fetchall()
        return rows[0] if rows else None

    def _write(self, sql: str, *values) -> bool:
        return self._connection.execute(sql, values).rowcount > 0
