"""Calls that wait for a job do not hold up the page or other calls, and handlers of the page do not wait at all."""

import asyncio
import inspect
import json
import statistics
import time

import httpx
import pytest

from studio.config.recipe import DEFAULT_RECIPE
from studio.core.errors import StudioError
from studio.datasets.dataset import Dataset
from studio.jobs import worker
from studio.jobs.queue import Jobs
from studio.ui.waiting import WaitingRoom

CALLS = 200
SECONDS = 0.3


@pytest.fixture
def idle(monkeypatch):
    """A worker whose jobs never end."""
    monkeypatch.setattr(worker, "ensure", lambda home: None)


def test_two_hundred_waiting_calls_leave_the_page_and_other_calls_quick(page, idle):
    server, url, studio = page
    dataset = Dataset.from_samples(studio.home.workspace("local"), "style").id
    poll = next(number for number, event in server.blocks.fns.items() if event.fn and event.fn.__qualname__ == "poll_jobs.<locals>.poll")

    async def answered(client: httpx.AsyncClient, name: str, values: list) -> None:
        event = (await client.post(f"{url}gradio_api/call/{name}", json={"data": values, "session_hash": "page"})).json()["event_id"]
        assert "event: complete" in (await client.get(f"{url}gradio_api/call/{name}/{event}")).text

    async def ticked(client: httpx.AsyncClient) -> None:
        body = {"data": [None, None, None], "fn_index": poll, "session_hash": "page"}
        (await client.post(f"{url}gradio_api/queue/join", json=body)).raise_for_status()
        async with client.stream("GET", f"{url}gradio_api/queue/data?session_hash=page") as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:") and json.loads(line[5:])["msg"] == "process_completed":
                    assert json.loads(line[5:])["success"]
                    return

    async def timed(action) -> float:
        times = []
        for _ in range(5):
            began = time.perf_counter()
            await asyncio.wait_for(action(), 10)
            times.append(time.perf_counter() - began)
        return statistics.median(times)

    async def measure() -> tuple[float, float]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(timeout=20, limits=limits) as client:
            image = ["a cat", [], 7, 2, 5.0, "", DEFAULT_RECIPE.base_model, 1, "", None, None, None, None]
            calls = [("generate", image), ("caption", [dataset, "builtin", True, ""])] * (CALLS // 2)
            # Of one program, and one page: for a new session Gradio 6.31 works 30 ms, far longer than for a call.
            bodies = [(name, {"data": values, "session_hash": "program"}) for name, values in calls]
            await asyncio.gather(*(client.post(f"{url}gradio_api/call/{name}", json=body) for name, body in bodies))
            ends = time.monotonic() + 10
            while len(studio.jobs.list(kinds=("generate", "caption"), limit=2 * CALLS)) < CALLS and time.monotonic() < ends:
                await asyncio.sleep(0.1)
            assert len(studio.jobs.list(kinds=("generate", "caption"), limit=2 * CALLS)) == CALLS, "not every call has begun"
            await ticked(client)
            return await timed(lambda: answered(client, "datasets", [])), await timed(lambda: ticked(client))

    try:
        datasets, tick = asyncio.run(measure())
    finally:
        for job in studio.jobs.list(kinds=("generate", "caption"), limit=2 * CALLS):
            studio.jobs.cancel(job.id)
    print(f"/datasets {datasets:.3f} s, tick {tick:.3f} s")  # noqa: T201
    assert datasets < SECONDS and tick < SECONDS


def test_no_handler_of_the_page_waits(page):
    """Only endpoints may, in the room for that; a handler that is `async` here waits for something."""
    server, *_ = page
    waiting = [each.fn.__qualname__ for each in server.blocks.fns.values() if each.fn and each.api_visibility == "private" and _waits(each.fn)]
    assert waiting == []


def _waits(function) -> bool:
    plain = inspect.unwrap(function)
    return inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain) or inspect.isgeneratorfunction(plain)


@pytest.fixture
def room(tmp_path):
    return WaitingRoom(Jobs(tmp_path / "studio.db"), seats=1)


def test_a_call_beyond_the_seats_is_refused_and_starts_nothing(room):
    message = "1 calls are waiting for their results, which is the limit. Nothing was started"
    with room.seat(), pytest.raises(StudioError, match=message), room.seat():
        pass
    with room.seat():
        pass


def test_calls_that_wait_for_one_job_all_get_its_end(room):
    async def wait() -> list:
        job, other = room.jobs.submit("local", "generate", {}), room.jobs.submit("local", "caption", {})
        calls = [asyncio.create_task(room.ended(each)) for each in (job, job, other)]
        await asyncio.sleep(0.05)
        room.jobs.cancel(job.id)
        ended = await asyncio.wait_for(asyncio.gather(*calls[:2]), 5)
        assert not calls[2].done()
        calls[2].cancel()
        await asyncio.gather(calls[2], return_exceptions=True)
        return ended

    assert [each.state for each in asyncio.run(wait())] == ["cancelled", "cancelled"]
    assert not room._waiting


def test_calls_fail_with_the_database_instead_of_waiting_for_ever(room, monkeypatch):
    async def wait() -> None:
        call = asyncio.create_task(room.ended(room.jobs.submit("local", "generate", {})))
        await asyncio.sleep(0.05)
        monkeypatch.setattr(room.jobs, "data_version", lambda: 1 / 0)
        await asyncio.wait_for(call, 5)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(wait())
