"""New threads through the group-commit writer."""

import asyncio

import psycopg
import pytest

from headrace.auth.principal import ANONYMOUS
from headrace.db.engine import Sessions, build_engine
from headrace.errors import InvalidRequest
from headrace.ids import uuid7
from headrace.threads.copies import ThreadCopies
from headrace.threads.creation import ThreadCreation
from headrace.threads.reader import ThreadReader, place_of
from headrace.threads.repository import ThreadRepository
from headrace.threads.schemas import ThreadTTL
from tests.support.database import open_pool
from tests.support.engine import open_writer


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url) as opened:
        yield opened


@pytest.fixture
def flushes():
    return []


@pytest.fixture
async def writer(pool, flushes):
    async with open_writer(pool, on_flush=flushes.append) as opened:
        yield opened


@pytest.fixture
async def threads(pool, writer):
    engine = build_engine(pool)
    reader = ThreadReader(pool, acquire_timeout_seconds=5, timeout_seconds=10)
    yield ThreadRepository(Sessions(engine, timeout_seconds=5), pool, writer, reader)
    await reader.stop()
    await engine.dispose()


async def test_the_row_is_the_one_that_is_stored(threads):
    """Of all that clients see of a thread, nothing is made up."""
    metadata = {"later": 1, "b": {"nul": "\0", "big": 2**70, "half": 0.5}}
    for ttl in (None, ThreadTTL(ttl=1.5, strategy="keep_latest")):
        for given in ({}, metadata):
            made = await threads.create(ANONYMOUS, given, ttl)
            stored = await threads.get(ANONYMOUS, made.thread_id)
            assert made == stored


async def test_a_column_of_a_later_release_breaks_no_prepared_statement(database_url):
    """In a rolling upgrade, processes of this release go on with the next release's schema."""
    async with (
        open_pool(database_url, pool_min=1, pool_max=1) as pool,
        open_writer(pool) as writer,
    ):
        reader = ThreadReader(pool, acquire_timeout_seconds=5, timeout_seconds=10)
        copies = ThreadCopies(pool, writer)

        async def use() -> None:
            assert await reader.row(place_of(ANONYMOUS, "t")) is not None
            # psycopg prepares a statement once it has seen it so often.
            for _ in range(7):
                await copies.copy(ANONYMOUS, "t")

        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute(
                "INSERT INTO threads (thread_id, tenant, owner) VALUES ('t', 'default', '')"
            )
            await use()
            other.execute("ALTER TABLE threads ADD COLUMN of_a_later_release text")
            await use()
        await reader.stop()


async def test_threads_of_one_moment_share_commits_and_keep_their_order(threads, flushes):
    made = await asyncio.gather(*(threads.create(ANONYMOUS, {"n": n}, None) for n in range(100)))
    assert sum(one.operations for one in flushes) == 100
    assert len(flushes) < 20
    times = [one.created_at for one in made]
    assert len(set(times)) == 100


async def test_a_repetition_after_a_lost_answer_makes_no_second_thread(threads, writer):
    creation = ThreadCreation(ANONYMOUS, str(uuid7()), {"a": 1}, None)
    assert (await writer.commit(creation)).metadata == {"a": 1}
    again = ThreadCreation(ANONYMOUS, creation.thread_id, {"a": 2}, None)
    assert await writer.commit(again) is None
    assert (await threads.get(ANONYMOUS, creation.thread_id)).metadata == {"a": 1}


async def test_a_thread_with_the_id_of_a_client_is_created_once(threads):
    thread_id = str(uuid7())
    made = await asyncio.gather(
        *(threads.create_if_absent(ANONYMOUS, thread_id, {}) for _ in range(5))
    )
    assert sum(row is not None for row in made) == 1


async def test_a_thread_that_postgres_refuses_fails_alone(threads):
    long = ThreadTTL.model_construct(ttl=1e308, strategy="delete")
    others = [threads.create(ANONYMOUS, {}, None) for _ in range(5)]
    refused, *made = await asyncio.gather(
        threads.create(ANONYMOUS, {}, long), *others, return_exceptions=True
    )
    assert isinstance(refused, InvalidRequest)
    assert not any(isinstance(one, BaseException) for one in made)
