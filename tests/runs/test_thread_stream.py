"""Streams of whole threads, against two server processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest
from langgraph_sdk import get_client

from headrace.auth.principal import ANONYMOUS
from headrace.events.sse import RELEASED
from headrace.runs.schemas import RunCreate
from headrace.threads.schemas import ThreadCreate
from headrace.unavailable_errors import Draining
from tests.support.graphs.graphs import agent
from tests.support.pair import open_states
from tests.support.waiting import eventually

QUICK: dict[str, Any] = {"input": {"seconds": 0.0}}
#: Of a run of ``slow``.
STATES = [[], [0], [0, 1], [0, 1, 2]]


@pytest.fixture
async def client(forms_server):
    async with get_client(url=forms_server.url) as opened:
        yield opened


@pytest.fixture
async def http(forms_server):
    async with httpx.AsyncClient(base_url=forms_server.url, timeout=30) as opened:
        yield opened


class Stream:
    """What a stream tells."""

    def __init__(self, lines: AsyncIterator[str]) -> None:
        self._lines = lines
        self.ids: list[str | None] = []

    async def events(self, count: int) -> list[tuple[str, Any]]:
        """So many events, heartbeats apart."""
        found: list[tuple[str, Any]] = []
        async with asyncio.timeout(20):
            while len(found) < count:
                fields = [line async for line in self._block()]
                if fields and not fields[0].startswith(":"):
                    event = dict(field.split(": ", 1) for field in fields)
                    self.ids.append(event.get("id"))
                    found.append((event["event"], json.loads(event["data"])))
        return found

    async def _block(self) -> AsyncIterator[str]:
        async for line in self._lines:
            if not line:
                return
            yield line
        raise EOFError


@asynccontextmanager
async def streamed(http, thread_id: str, after: str | None = None, **params):
    """An open stream: whatever run starts from now on is told."""
    headers = {} if after is None else {"Last-Event-ID": after}
    path = f"/threads/{thread_id}/stream"
    async with http.stream("GET", path, headers=headers, params=params) as response:
        assert response.status_code == 200, await response.aread()
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        yield Stream(response.aiter_lines())


async def new_thread(client) -> str:
    thread_id: str = (await client.threads.create())["thread_id"]
    return thread_id


def begun(run_id: str) -> tuple[str, Any]:
    return "metadata", {"run_id": run_id, "attempt": 1}


def done(run_id: str) -> tuple[str, Any]:
    return "metadata", {"status": "run_done", "run_id": run_id}


async def run_id_of_last(client, thread_id: str) -> str:
    (run,) = await client.runs.list(thread_id, limit=1)
    run_id: str = run["run_id"]
    return run_id


@pytest.mark.acceptance
async def test_every_run_of_a_thread_is_told_from_its_first_event_to_its_end(client, http):
    thread_id = await new_thread(client)
    async with streamed(http, thread_id) as one, streamed(http, thread_id) as other:
        # In place and waited for, from the queue, and streamed: in either process.
        for run in range(4):
            if run % 2:
                await client.runs.wait(thread_id, "slow", **QUICK)
            else:
                await client.runs.create(thread_id, "slow", **QUICK)
            events = await one.events(6)
            run_id = await run_id_of_last(client, thread_id)
            assert (events[0], events[-1]) == (begun(run_id), done(run_id))
            assert {name for name, _ in events[1:-1]} == {"values"}
            whole = STATES[-1] * run
            states = [data.get("done", []) for _, data in events[1:-1]]
            assert states == [[*whole, *state] for state in STATES]
            assert await other.events(6) == events
    assert all(one.ids)
    assert len(set(one.ids)) == len(one.ids)


@pytest.mark.acceptance
async def test_one_that_comes_back_misses_nothing(client, http):
    thread_id = await new_thread(client)
    async with streamed(http, thread_id) as stream:
        await client.runs.wait(thread_id, "slow", **QUICK)
        first = await stream.events(6)
    # It is still thought to be there.
    await client.runs.wait(thread_id, "slow", **QUICK)
    run_id = await run_id_of_last(client, thread_id)

    async with streamed(http, thread_id, after=stream.ids[2]) as again:
        events = await again.events(9)
    assert events[:3] == first[3:]
    assert (events[3], events[-1]) == (begun(run_id), done(run_id))
    async with streamed(http, thread_id, after=stream.ids[-1]) as again:
        assert await again.events(6) == events[3:]
    async with streamed(http, thread_id, after="-1") as again:
        assert await again.events(12) == [*first, *events[3:]]
    # What is over is not told to who comes without an id.
    async with streamed(http, thread_id) as again:
        await client.runs.wait(thread_id, "slow", **QUICK)
        assert (await again.events(1)) == [begun(await run_id_of_last(client, thread_id))]


@pytest.mark.acceptance
async def test_a_run_that_runs_already_is_joined(client, http):
    thread_id = await new_thread(client)
    run = await client.runs.create(
        thread_id, "slow", input={"seconds": 30}, stream_resumable=True, stream_mode="custom"
    )
    async for part in client.runs.join_stream(thread_id, run["run_id"], last_event_id="-1"):
        if part.event == "custom":
            break
    async with streamed(http, thread_id) as stream:
        await client.runs.cancel(thread_id, run["run_id"])
        assert await stream.events(1) == [done(run["run_id"])]


@pytest.mark.acceptance
async def test_modes(client, http):
    thread_id = await new_thread(client)
    async with (
        streamed(http, thread_id, stream_mode="lifecycle") as lifecycle,
        streamed(http, thread_id, stream_modes="state_update") as updates,
        streamed(http, thread_id, stream_mode=["lifecycle", "state_update"]) as both,
    ):
        await client.runs.wait(thread_id, "slow", **QUICK)
        run_id = await run_id_of_last(client, thread_id)
        assert await lifecycle.events(2) == [begun(run_id), done(run_id)]
        ((name, state),) = await updates.events(1)
        assert (name, state) == ("state_update", await client.threads.get_state(thread_id))
        assert [name for name, _ in await both.events(2)] == ["metadata"] * 2
        await client.threads.update_state(thread_id, {"done": [9]}, as_node="step2")
        ((name, state),) = await updates.events(1)
        assert (name, state["values"]["done"]) == ("state_update", [0, 1, 2, 9])


@pytest.mark.acceptance
async def test_a_run_that_fails_is_told_and_the_stream_goes_on(client, http):
    thread_id = await new_thread(client)
    async with streamed(http, thread_id) as stream:
        for _ in range(2):
            await client.runs.wait(thread_id, "boom", input={"topic": "x"}, raise_error=False)
            events = await stream.events(4)
            error = {"error": "ValueError", "message": "kaboom in node"}
            assert events[2] == ("error", error)
            assert events[3] == done(await run_id_of_last(client, thread_id))


@pytest.mark.acceptance
async def test_the_stream_of_a_thread_that_is_deleted_ends(client, http):
    thread_id = await new_thread(client)
    async with streamed(http, thread_id) as stream:
        await client.threads.delete(thread_id)
        with pytest.raises(EOFError):
            await stream.events(1)


@pytest.mark.acceptance
async def test_what_cannot_be_streamed_says_why(client, http):
    thread_id = await new_thread(client)
    for path, params, headers, status, said in (
        (uuid4(), {}, {}, 404, "not found"),
        ("words", {}, {}, 422, "must be a UUID"),
        (thread_id, {"stream_mode": "bad"}, {}, 422, "Invalid stream mode: bad; there are run_mod"),
        (thread_id, {}, {"Last-Event-ID": "words"}, 422, "that this thread's stream has sent"),
    ):
        answer = await http.get(f"/threads/{path}/stream", params=params, headers=headers)
        assert answer.status_code == status
        assert said in answer.json()["detail"]


@pytest.mark.acceptance
async def test_through_the_sdk(client, forms_server):
    thread_id = await new_thread(client)
    parts = await client.threads.join_stream(thread_id, stream_mode=["lifecycle"])
    first = asyncio.ensure_future(anext(parts))
    with psycopg.connect(forms_server.database_url, autocommit=True) as database:
        await eventually(
            lambda: database.execute(
                "SELECT 1 FROM threads WHERE thread_id = %s AND watched_until > now()", (thread_id,)
            ).fetchone()
        )
    await client.runs.wait(thread_id, "agent", input={"messages": []})
    run_id = await run_id_of_last(client, thread_id)
    assert (await first).data == begun(run_id)[1]
    assert (await anext(parts)).data == done(run_id)[1]
    await parts.aclose()


async def test_streams_end_when_the_process_drains(database_url):
    events = {"notices": "off", "poll_seconds": 0.1}
    async with open_states(database_url, {"agent": agent}, events=events) as (here, there):
        row = await here.threads.create(ANONYMOUS, ThreadCreate())
        stream = await here.thread_streams.open(ANONYMOUS, row.thread_id, ["lifecycle"], None)
        frames = stream.frames()
        # Without notices, of a run in the other process.
        body = RunCreate.model_validate({"assistant_id": "agent", "input": {"messages": []}})
        run = await there.runs.create(ANONYMOUS, row.thread_id, body, request_id="")
        told = b""
        async with asyncio.timeout(20):
            while b"run_done" not in told:
                told += await anext(frames)
        assert told.count(str(run.run_id).encode()) >= 2
        here.thread_watcher.release()
        assert await anext(frames) == RELEASED
        with pytest.raises(StopAsyncIteration):
            await anext(frames)
        with pytest.raises(Draining):
            await here.thread_streams.open(ANONYMOUS, row.thread_id, [], None)
        # Its place is free again.
        other = await there.thread_streams.open(ANONYMOUS, row.thread_id, [], None)
        other.close()
        await (
            (await there.thread_streams.open(ANONYMOUS, row.thread_id, [], None)).frames().aclose()
        )


async def test_a_client_that_does_not_read_is_cut(database_url):
    events = {"watch_seconds": 3.0}
    async with open_states(database_url, {"agent": agent}, count=1, events=events) as (here,):
        row = await here.threads.create(ANONYMOUS, ThreadCreate())
        stream = await here.thread_streams.open(ANONYMOUS, row.thread_id, [], None)
        here.thread_streams.patience_seconds = -1.0
        body = RunCreate.model_validate({"assistant_id": "agent", "input": {"messages": []}})
        await here.runs.create(ANONYMOUS, row.thread_id, body, request_id="")
        frames = stream.frames()
        assert await anext(frames)
        with pytest.raises(StopAsyncIteration):
            await anext(frames)


async def test_a_thread_that_is_deleted_before_its_state_is_read_ends_its_stream(
    database_url, database
):
    async with open_states(database_url, {"agent": agent}, count=1) as (here,):
        row = await here.threads.create(ANONYMOUS, ThreadCreate())
        stream = await here.thread_streams.open(ANONYMOUS, row.thread_id, ["state_update"], None)
        body = RunCreate.model_validate({"assistant_id": "agent", "input": {"messages": []}})
        run = await here.runs.create(ANONYMOUS, row.thread_id, body, request_id="")
        assert await run.outcome(20)
        await eventually(lambda: stream._watch.state_updated_at is not None)
        database.execute("DELETE FROM threads")
        async with asyncio.timeout(20):
            told = b"".join([chunk async for chunk in stream.frames()])
        assert b"state_update" not in told
