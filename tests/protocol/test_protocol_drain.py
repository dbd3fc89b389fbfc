"""Streams of the protocol when their process goes: they are broken off, and go on elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import orjson
import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.events.reader import FollowingStopped
from headrace.protocol.command_forms import Command
from headrace.protocol.commands import CommandRequest
from headrace.protocol.subscription import Subscription
from headrace.tracing.tracer import NO_REQUEST_TRACE
from headrace.unavailable_errors import Draining
from tests.support.graphs.graphs import make_slow
from tests.support.pair import Process, open_states

ASKED = CommandRequest(request_id="", trace=NO_REQUEST_TRACE, key=None, headers={})


@pytest.fixture
async def processes(database_url: str) -> AsyncIterator[list[Process]]:
    async with open_states(database_url, {"slow": make_slow()}) as opened:
        yield opened


async def start(process: Process, thread_id: str, seconds: float = 0.0) -> str:
    params = {"assistant_id": "slow", "input": {"seconds": seconds}}
    told = await process.protocol_commands.carry_out(
        ANONYMOUS, thread_id, Command(1, "run.start", params), ASKED
    )
    run_id: str = told["result"]["run_id"]
    return run_id


async def opened(process: Process, thread_id: str, since: int | None = None) -> Any:
    subscription = Subscription(frozenset(("lifecycle", "values")), since=since)
    return await process.protocol_streams.open(ANONYMOUS, thread_id, subscription)


async def told(stream: Any, seen: list[Any]) -> None:
    async with aclosing(stream.events()) as events:
        async for event in events:
            seen.append(orjson.loads(event.message))
            if seen[-1]["params"]["data"].get("event") == "completed":
                return


async def test_a_stream_goes_on_in_another_process(processes):
    here, there = processes
    thread_id = str(uuid4())
    seen: list[Any] = []
    async with asyncio.timeout(20):
        await start(there, thread_id, 2.0)
        stream = await opened(here, thread_id)
        reading = asyncio.create_task(told(stream, seen))
        while len(seen) < 2:
            await asyncio.sleep(0.02)
        await here.drain.drain(close_listeners=lambda: None)
        with pytest.raises(FollowingStopped):
            await reading
        with pytest.raises(Draining):
            await opened(here, thread_id)
        before = len(seen)
        await told(await opened(there, thread_id, seen[-1]["seq"]), seen)
        whole: list[Any] = []
        await told(await opened(there, thread_id, 0), whole)
    assert 2 <= before < len(seen)
    assert [one["event_id"] for one in seen] == [one["event_id"] for one in whole]
    assert [one["seq"] for one in seen] == [one["seq"] for one in whole]


async def test_a_run_in_another_process_is_found_by_a_waiting_stream(processes):
    here, there = processes
    thread_id = str(uuid4())
    seen: list[Any] = []
    async with asyncio.timeout(20):
        stream = await opened(here, thread_id)
        reading = asyncio.create_task(told(stream, seen))
        await start(there, thread_id)
        await reading
    assert [one["method"] for one in seen] == ["lifecycle", *["values"] * 4, "lifecycle"]
    assert here.thread_watcher.watching == 0
