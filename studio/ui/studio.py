"""What every tab needs: the home folder, the mode, the job queue, and whose Workspace a request belongs to."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import gradio as gr

from studio.access import Access
from studio.jobs import Job, Jobs
from studio.workspace import Home, Workspace

POLL_SECONDS = 0.03
OVER = ("done", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Studio:
    home: Home
    access: Access
    jobs: Jobs

    def owner(self, request: gr.Request) -> str:
        return self.access.owner(request)

    def workspace(self, request: gr.Request) -> Workspace:
        """The caller's own things; nobody else's can be named through it."""
        return self.home.workspace(self.owner(request))

    async def watch(self, job: Job, every: float = POLL_SECONDS) -> AsyncIterator[Job]:
        """The job again each time it has changed, the last time when it is over. It goes on if nobody watches."""
        shown = None
        while True:
            now = self.jobs.get(job.id)
            seen = (now.state, now.done, now.total, now.message)
            if seen != shown:
                shown = seen
                yield now
            if now.state in OVER:
                return
            await asyncio.sleep(every)

    async def finished(self, job: Job) -> Job:
        """The job once it is over."""
        last = job
        async for now in self.watch(job):
            last = now
        return last
