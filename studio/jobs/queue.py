"""Job queue in one SQLite file; jobs survive a closed tab, a server restart and a crash.

There are two kinds of jobs. Device jobs (caption, generate, train) are claimed by the one worker; each direct job gets a process of
its own, `python -m studio.jobs.process DATABASE JOB`, which runs the function of its kind.
"""

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from studio.core import platform, storage
from studio.core.errors import StudioError
from studio.jobs.table import ORDER, Job, Table, as_job

QUICK_KINDS = ("generate", "caption")
"""Device jobs that a user waits for: they come before a training that has not begun, and some run beside one."""
DEVICE_KINDS = (*QUICK_KINDS, "train")
DIRECT_KINDS = {
    "import": "studio.jobs.imports:import_images",
    "adapter": "studio.jobs.imports:import_adapters",
    "download": "studio.jobs.imports:download_adapter",
    "publish": "studio.publishing.send:publish_job",
    "save": "studio.publishing.save:save_job",
    "estimate": "studio.jobs.estimates:estimate_job",
}
"""kind -> function(home, job, report, secret) -> result dict, imported and run by the process of a direct job."""

UNFINISHED = ("waiting", "running")
MOVES = ("first", "up", "down")
RETRY_AFTER_CRASH = QUICK_KINDS
"""Kinds that are safe to repeat. Others wait for the user: the token of a publish job is gone, and half of an import is done."""
MAX_TRAININGS, MAX_UNFINISHED = 1, 8
"""Limits per visitor of a Space, where all visitors share one machine. A local studio has no limit."""
MAX_ATTEMPTS = 3
START_TIMEOUT_SECONDS = 60
"""A direct job without a process after this time counts as lost."""


class Jobs:
    """The queue in one file. Safe to use from several processes and threads."""

    def __init__(self, database: Path):
        self.database = Path(database)
        self._table = Table(self.database)

    def submit(self, owner: str, kind: str, payload: dict, key: str | None = None) -> Job:
        """Add a job to the queue, or return this owner's unfinished job with the same key.

        StudioError if a visitor of a Space has reached the limit.
        """
        return self.submit_all(owner, kind, [(payload, key)])[0]

    def submit_all(self, owner: str, kind: str, requests: Sequence[tuple[dict, str | None]]) -> Sequence[Job]:
        """Add several (payload, key) in this order; on StudioError none is added."""
        if kind not in DEVICE_KINDS and kind not in DIRECT_KINDS:
            raise StudioError(f"Unknown kind of job {kind!r}; choose one of: {', '.join((*DEVICE_KINDS, *DIRECT_KINDS))}.")
        found = []
        with self._table.transaction():
            for payload, key in requests:
                row = self._table.fetch_one("SELECT * FROM jobs WHERE owner = ? AND key = ? AND state IN ('waiting', 'running')", owner, key)
                if row is None:
                    self._refuse_beyond_quota(owner, kind)
                    values = (owner, kind, json.dumps(payload), key, time.time())
                    row = self._table.fetch_one("INSERT INTO jobs (owner, kind, payload, key, created) VALUES (?, ?, ?, ?, ?) RETURNING *", *values)
                assert row is not None, "INSERT ... RETURNING returns the inserted row."
                found.append(as_job(row))
        return found

    def _refuse_beyond_quota(self, owner: str, kind: str) -> None:
        if owner == "local":
            return
        kinds = [job.kind for job in self.list(owner, states=UNFINISHED)]
        if kind == "train" and kinds.count("train") >= MAX_TRAININGS:
            raise StudioError("A visitor can have one training run at a time, and yours is not finished. Wait for it, or stop it first.")
        if len(kinds) >= MAX_UNFINISHED:
            raise StudioError(f"You have {len(kinds)} unfinished jobs, which is the limit per visitor. Wait for one to finish, or stop one.")

    def start(self, job: Job, secret: bytes | None = None) -> Job:
        """Start the process of a direct job. The secret (a token) is passed on stdin and never written to disk."""
        if job.kind not in DIRECT_KINDS:
            raise StudioError(f"A {job.kind} job runs in the worker and has no process of its own; submit it without starting it.")
        if job.state != "waiting" or job.pid:
            return job
        log = self.database.parent / "logs" / f"job-{job.id}.log"
        child = platform.spawn(
            platform.module_command("studio.jobs.process", self.database, job.id),
            log,
            secret=secret or b"",
            on_exit=lambda status: self.mark_lost(job.id, status),
        )
        self._table.write("UPDATE jobs SET pid = ?, mark = ? WHERE id = ? AND state = 'waiting'", child.pid, platform.start_mark(child.pid), job.id)
        return self.get(job.id)

    def get(self, job_id: int, owner: str | None = None) -> Job:
        """The job; with `owner`, only if it is theirs. Another owner's job gives the same StudioError as one that does not exist."""
        row = self._table.fetch_one("SELECT * FROM jobs WHERE id = ?", job_id)
        if row is None or owner not in (None, row["owner"]):
            raise StudioError(f"There is no job {job_id}; choose one from the list of jobs.")
        return as_job(row)

    def list(
        self, owner: str | None = None, kinds: Iterable[str] | None = None, states: Iterable[str] | None = None, limit: int = 50
    ) -> Sequence[Job]:
        """Newest first."""
        where, values = ["1"], []
        if owner is not None:
            where.append("owner = ?")
            values.append(owner)
        for column, allowed in (("kind", kinds), ("state", states)):
            if allowed is not None:
                allowed = list(allowed)
                where.append(f"{column} IN ({', '.join('?' * len(allowed))})")
                values += allowed
        rows = self._table.fetch_all(f"SELECT * FROM jobs WHERE {' AND '.join(where)} ORDER BY id DESC LIMIT ?", *values, limit)
        return [as_job(row) for row in rows]

    def ended_of(self, ids: Iterable[int]) -> Sequence[Job]:
        """Those of these jobs that have ended, in one statement; of all owners."""
        ended = "SELECT jobs.* FROM json_each(?) AS requested JOIN jobs ON jobs.id = requested.value WHERE state NOT IN ('waiting', 'running')"
        return [as_job(row) for row in self._table.fetch_all(ended, json.dumps(list(ids)))]

    def queue(self, kinds: Iterable[str] = DEVICE_KINDS) -> Sequence[Job]:
        """Running jobs, then waiting jobs in queue order; of all owners, since they share the device."""
        kinds = list(kinds)
        chosen = f"state IN ('waiting', 'running') AND kind IN ({', '.join('?' * len(kinds))})"
        return [as_job(row) for row in self._table.fetch_all(f"SELECT * FROM jobs WHERE {chosen} ORDER BY state = 'waiting', {ORDER}", *kinds)]

    def move(self, job_id: int, where: str) -> None:
        """Move a waiting job first, up or down among its owner's waiting jobs of the same kind.

        Only these jobs change places, so no owner gets ahead of another. StudioError if the job is not waiting.
        """
        if where not in MOVES:
            raise StudioError(f"A job cannot be moved {where!r}; choose one of {', '.join(MOVES)}.")
        with self._table.transaction():
            job = self.get(job_id)
            if job.state != "waiting":
                raise StudioError(f"Job {job_id} is {job.state} and cannot be moved; only waiting jobs can.")
            waiting = f"SELECT id, {ORDER} AS place FROM jobs WHERE state = 'waiting' AND owner = ? AND kind = ? ORDER BY place"
            rows = self._table.fetch_all(waiting, job.owner, job.kind)
            ids = [row["id"] for row in rows]
            at = ids.index(job_id)
            ids.insert({"first": 0, "up": max(at - 1, 0), "down": at + 1}[where], ids.pop(at))
            for row, moved in zip(rows, ids):
                self._table.write("UPDATE jobs SET place = ? WHERE id = ?", row["place"], moved)

    def claim(self, kinds: Iterable[str], pid: int) -> Job | None:
        """Claim the first waiting job of these kinds. A single statement, so that no two processes get the same job."""
        kinds = list(kinds)
        first = f"SELECT id FROM jobs WHERE state = 'waiting' AND kind IN ({', '.join('?' * len(kinds))}) ORDER BY {ORDER} LIMIT 1"
        return self._take(first, kinds, pid)

    def explain(self, job_id: int, reason: str) -> None:
        """Set why a waiting job waits; empty for its place in the queue alone."""
        self._table.write("UPDATE jobs SET message = ? WHERE id = ? AND state = 'waiting'", reason, job_id)

    def claim_one(self, job_id: int, pid: int) -> Job | None:
        """Claim one job by id; None if it was cancelled or another process has it."""
        return self._take("SELECT id FROM jobs WHERE state = 'waiting' AND id = ?", [job_id], pid)

    def _take(self, choose: str, values: Sequence, pid: int) -> Job | None:
        row = self._table.fetch_one(
            f"""UPDATE jobs SET state = 'running', started = ?, ticks = ?, pid = ?, mark = ?, attempts = attempts + 1,
            done = 0, total = 0, seconds_left = NULL, message = '' WHERE id = ({choose}) AND state = 'waiting' RETURNING *""",
            *(time.time(), time.monotonic(), pid, platform.start_mark(pid), *values),
        )
        return as_job(row) if row else None

    def set_process(self, job_id: int, pid: int) -> None:
        """Set the process of a running job, which may outlive the process that claimed it."""
        self._table.write("UPDATE jobs SET pid = ?, mark = ? WHERE id = ? AND state = 'running'", pid, platform.start_mark(pid), job_id)

    def progress(self, job_id: int, done: int, total: int, seconds_left: float | None = None, message: str = "") -> None:
        self._table.write(
            "UPDATE jobs SET done = ?, total = ?, seconds_left = ?, message = ? WHERE id = ? AND state = 'running'",
            *(done, total, seconds_left, message, job_id),
        )

    def finish(self, job_id: int, result: dict) -> bool:
        """Mark as done. This and the next three return False if the job was no longer running."""
        return self._close(job_id, "done", result=result)

    def fail(self, job_id: int, message: str) -> bool:
        return self._close(job_id, "failed", error=message)

    def interrupt(self, job_id: int, message: str, result: dict | None = None) -> bool:
        """Mark a job that ended unexpectedly, through no fault of its own."""
        return self._close(job_id, "interrupted", error=message, result=result)

    def mark_cancelled(self, job_id: int, result: dict | None = None) -> bool:
        """Mark a running job as cancelled, after its process has stopped."""
        return self._close(job_id, "cancelled", result=result)

    def _close(self, job_id: int, state: str, error: str = "", result: dict | None = None) -> bool:
        now = time.monotonic()
        return self._table.write(
            "UPDATE jobs SET state = ?, error = ?, result = ?, seconds_left = NULL, finished = ?, seconds = MAX(0, ? - ticks)"
            " WHERE id = ? AND state = 'running'",
            *(state, error, json.dumps(result or {}), time.time(), now, job_id),
        )

    def cancel(self, job_id: int) -> Job:
        """Cancel a waiting job at once; set a flag on a running one, whose process polls it."""
        self._table.write("UPDATE jobs SET state = 'cancelled', finished = ? WHERE id = ? AND state = 'waiting'", time.time(), job_id)
        self._table.write("UPDATE jobs SET cancel = 1 WHERE id = ? AND state = 'running'", job_id)
        return self.get(job_id)

    def cancel_requested(self, job_id: int) -> bool:
        row = self._table.fetch_one("SELECT cancel FROM jobs WHERE id = ?", job_id)
        return bool(row and row["cancel"])

    def mark_lost(self, job_id: int, status: int | None = None) -> None:
        """Mark a direct job whose process has ended without recording a result."""
        how = "" if status is None else f" (killed by signal {-status})" if status < 0 else f" (exit status {status})"
        message = f"The process of this job ended unexpectedly{how}; nothing else was affected. Try again."
        if not self.interrupt(job_id, message):
            self._table.write(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE id = ? AND state = 'waiting'",
                *(f"The process of this job could not start{how}; see logs/job-{job_id}.log in the studio's folder.", time.time(), job_id),
            )

    def recover(self) -> Sequence[Job]:
        """Requeue jobs whose process has died, up to three times, or mark them as interrupted. Returns these jobs.

        Running training jobs are skipped: their process outlives the worker, which reads from the run how training ended.
        """
        orphans = []
        for row in self._table.fetch_all("SELECT * FROM jobs WHERE state IN ('waiting', 'running')"):
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
            # An unchanged number of attempts means that no other process has requeued the job since.
            again = "UPDATE jobs SET state = 'waiting', pid = NULL, mark = NULL WHERE id = ? AND state = 'running' AND attempts = ?"
            self._table.write(again, job.id, job.attempts)
        else:
            self.fail(
                job.id, f"The worker crashed on this job {job.attempts} times, so it is not retried; see logs/worker.log in the studio's folder."
            )

    def fail_waiting(self, kinds: Iterable[str], message: str) -> None:
        """Fail every waiting job of these kinds, because no worker can run them."""
        for job in self.list(kinds=kinds, states=("waiting",), limit=1000):
            self._table.write(
                "UPDATE jobs SET state = 'failed', error = ?, finished = ? WHERE id = ? AND state = 'waiting'", message, time.time(), job.id
            )

    def delete_old(self, days: float = 30) -> None:
        """Delete finished jobs older than `days`, and logs of jobs. Training jobs stay: they record how their run ended."""
        oldest = time.time() - days * 86400
        self._table.write("DELETE FROM jobs WHERE finished < ? AND kind != 'train'", oldest)
        for log in (self.database.parent / "logs").glob("job-*.log"):
            if log.stat().st_mtime < oldest:
                storage.discard(log)

    def data_version(self) -> int:
        """A number that changes when any job changes. Takes microseconds; compare only within one Jobs object."""
        return self._table.data_version()
