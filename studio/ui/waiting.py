"""Calls of programs that wait for the result of a job: a bounded number of seats, and one look at the queue for all of them.

Gradio's queue has a slot for each handler that runs, and a handler that waits keeps its slot. With Gradio's 40 slots, 40 waiting calls stopped
every other handler; the page therefore has as many slots as there are seats, and PAGE_SLOTS that no waiting call can take.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

from studio.core.errors import StudioError
from studio.jobs.queue import Job, Jobs

SEATS = 1000
PAGE_SLOTS = 40
"""Slots for everything that does not wait; as many as Gradio 6.31 has threads."""
POLL_SECONDS = 0.03


class WaitingRoom:
    def __init__(self, jobs: Jobs, seats: int = SEATS):
        self.jobs = jobs
        self.seats = seats
        self._taken = 0
        self._waiting: dict[int, list[asyncio.Future[Job]]] = {}
        self._watcher: asyncio.Task | None = None

    @contextlib.contextmanager
    def seat(self) -> Iterator[None]:
        """Held by a call from before its job is queued until it answers; StudioError if all are taken."""
        if self._taken >= self.seats:
            raise StudioError(f"{self.seats:,} calls are waiting for their results, which is the limit. Nothing was started; call again later.")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1

    async def ended(self, job: Job) -> Job:
        """The job once it has ended. The job does not depend on being waited for."""
        future: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(job.id, []).append(future)
        if self._watcher is None or self._watcher.done():
            self._watcher = asyncio.create_task(self._watch())
            self._watcher.add_done_callback(self._fail)
        try:
            return await future
        finally:
            self._leave(job.id, future)

    def _leave(self, job_id: int, future: asyncio.Future) -> None:
        """Also for a call that was cancelled."""
        others = [each for each in self._waiting.get(job_id, []) if each is not future]
        if others:
            self._waiting[job_id] = others
        else:
            self._waiting.pop(job_id, None)

    def _fail(self, watcher: asyncio.Task) -> None:
        """The calls fail with the watcher, such as after an error of the database."""
        if not watcher.cancelled() and (error := watcher.exception()):
            for future in itertools.chain.from_iterable(self._waiting.values()):
                if not future.done():
                    future.set_exception(error)

    async def _watch(self) -> None:
        """Runs while any call waits: 200 calls that each read their own job would keep the server busy."""
        version: int | None = None
        looked: set[int] = set()
        while self._waiting:
            now = self.jobs.data_version()
            if now != version or not looked.issuperset(self._waiting):
                version, looked = now, set(self._waiting)
                for job in self.jobs.ended_of(looked):
                    for future in self._waiting.get(job.id, []):
                        if not future.done():
                            future.set_result(job)
            await asyncio.sleep(POLL_SECONDS)
