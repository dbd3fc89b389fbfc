"""What is repeated while the database is away, how often, and what stays of it."""

import asyncio
import gc
import weakref

import psycopg
import pytest
from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import errors

from headrace.checkpoints import upstream_saver
from headrace.checkpoints.retry import retried
from headrace.unavailable_errors import DatabaseUnavailable
from tests.support.chains import put
from tests.support.database import open_pool
from tests.support.engine import open_saver


class Thing:
    """What a try holds on to."""


@pytest.fixture
def no_collector():
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("faults", [1, 3])
async def test_what_a_failed_try_held_goes_with_it(faults):
    """Otherwise rows and connections of failed tries would stay until the collector comes."""
    things = []

    async def work() -> int:
        thing = Thing()
        things.append(weakref.ref(thing))
        if len(things) <= faults:
            raise psycopg.OperationalError("the connection is lost")
        return len(things)

    assert await retried(work, seconds=5, operation="test") == faults + 1
    assert [one() for one in things] == [None] * (faults + 1)


@pytest.mark.usefixtures("no_collector")
async def test_what_an_operation_held_that_was_given_up_goes_with_its_error():
    things = []

    async def work() -> None:
        thing = Thing()
        things.append(weakref.ref(thing))
        raise errors.UniqueViolation if len(things) == 2 else psycopg.OperationalError

    with pytest.raises(errors.UniqueViolation):
        await retried(work, seconds=5, operation="test")
    await asyncio.sleep(0)
    assert [one() for one in things] == [None, None]


@pytest.mark.parametrize("kind", [errors.QueryCanceled, errors.TransactionTimeout])
async def test_what_was_ended_at_its_time_limit_is_not_repeated(kind):
    tries = 0

    async def work() -> None:
        nonlocal tries
        tries += 1
        raise kind("it took too long")

    with pytest.raises(kind):
        await retried(work, seconds=5, operation="test")
    assert tries == 1


async def test_a_database_that_stays_away_ends_the_tries():
    async def work() -> None:
        raise psycopg.OperationalError("the connection is lost")

    with pytest.raises(DatabaseUnavailable):
        await retried(work, seconds=0.1, operation="test")


async def test_the_time_that_the_reader_of_a_list_takes_does_not_count(database_url, monkeypatch):
    upstreams = AsyncPostgresSaver.alist
    broken: list[CheckpointTuple] = []

    async def breaks_once(self, *args, **kwargs):
        async for item in upstreams(self, *args, **kwargs):
            yield item
            if not broken:
                broken.append(item)
                raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(AsyncPostgresSaver, "alist", breaks_once)
    monkeypatch.setattr(upstream_saver, "READ_SECONDS", 0.05)
    found = []
    async with open_pool(database_url) as pool, open_saver(pool) as saver:
        for number in range(1, 4):
            await put(saver, "t", number, "tea")
        async for item in saver.alist({"configurable": {"thread_id": "t"}}):
            found.append(item.metadata["step"])
            await asyncio.sleep(0.1)
    assert found == sorted(found, reverse=True)
    assert len(found) == 3
