"""Many runs that wait, on one thread or for their time, cost others nothing."""

import asyncio
import time
from dataclasses import replace

import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.checkpoints.fence import RunToken
from headrace.queue.queue import Queue
from tests.support.database import open_pool
from tests.support.engine import open_writer
from tests.support.pace import within
from tests.support.runs import DONE, register_process, run_request

GRAPHS = ["agent"]
MANY = 600


@pytest.fixture
async def queue(database_url):
    async with open_pool(database_url, pool_max=8) as pool, open_writer(pool) as writer:
        yield Queue(pool, writer)


async def claim(queue, owner, limit=10):
    return [one.request.run_id for one in await queue.claimer.claim(owner, GRAPHS, limit)]


async def end(queue, asked, owner):
    await queue.end_if_owned(RunToken(asked.run_id, 1, owner), asked.thread_id, DONE)


# It has a bound on time.
@pytest.mark.alone
async def test_hundreds_that_wait_on_one_thread_go_in_order_and_hold_up_nobody(queue, database):
    owner = register_process(database)
    first = run_request("long")
    await queue.enqueue(first)
    behind = [run_request("long") for _ in range(MANY)]
    for run in behind[:5]:
        await queue.enqueue(run)
    # The rest at once, as they come from many requests.
    await asyncio.gather(*(queue.enqueue(run) for run in behind[5:]))
    assert await claim(queue, owner) == [first.run_id]
    others = [run_request(f"other-{number}") for number in range(5)]
    for run in others:
        await queue.enqueue(run)
    began = time.monotonic()
    # One of the long thread runs; the others all have their turn beside it.
    assert await claim(queue, owner) == [run.run_id for run in others]
    for run in others:
        await end(queue, run, owner)
    running = first
    for following in behind[:5]:
        await end(queue, running, owner)
        assert await claim(queue, owner) == [following.run_id]
        running = following
    assert time.monotonic() - began < within(2)
    cancelled = await queue.cancel(
        ANONYMOUS, [run.run_id for run in behind[5:]], "interrupt", "enough", "client"
    )
    assert len(cancelled) == MANY - 5
    await end(queue, running, owner)
    assert database.execute(
        "SELECT running_run_id, ready_at,"
        " (SELECT count(*) FROM runs WHERE status IN ('pending', 'running'))"
        " FROM threads WHERE thread_id = 'long'"
    ).fetchone() == (None, None, 0)


# It has a bound on time.
@pytest.mark.alone
async def test_hundreds_that_wait_for_their_time_come_once_each_and_not_before(queue, database):
    owner = register_process(database)
    later = [replace(run_request(f"later-{n}"), after_seconds=3600) for n in range(MANY // 2)]
    await asyncio.gather(*(queue.enqueue(run) for run in later))
    began = time.monotonic()
    for number in range(5):
        assert await claim(queue, owner) == []
        now = run_request(f"now-{number}")
        await queue.enqueue(now)
        assert await claim(queue, owner) == [now.run_id]
        await end(queue, now, owner)
    # Their threads are not theirs until then.
    beside = run_request("later-0")
    await queue.start_run_if_free(beside, owner)
    await end(queue, beside, owner)
    assert time.monotonic() - began < within(2)
    database.execute("UPDATE runs SET created_at = now() WHERE status = 'pending'")
    database.execute("UPDATE threads SET ready_at = now() WHERE ready_at IS NOT NULL")
    claimed = []
    while found := await claim(queue, owner, 100):
        assert len(found) <= 100
        claimed += found
    assert sorted(claimed) == sorted(run.run_id for run in later)
