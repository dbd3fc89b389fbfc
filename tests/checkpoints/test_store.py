"""The store: timed, batched, and nobody waits for or fails with a stranger."""

import asyncio

import psycopg
import pytest

from headrace.checkpoints.store import Store
from tests.support.database import open_pool
from tests.support.waiting import eventually

ADA = ("memories", "ada")


@pytest.fixture
async def pool(database_url):
    async with open_pool(database_url, pool_min=6, pool_max=6) as opened:
        yield opened


@pytest.fixture
async def store(pool):
    made = Store(pool, observe=lambda operation, seconds: None)
    yield made
    await made.close()


async def test_it_is_timed_and_its_task_ends(pool):
    seen: list[str] = []
    store = Store(pool, observe=lambda operation, _: seen.append(operation))
    await store.aput(ADA, "k", {"data": "likes tea"})
    item = await store.aget(ADA, "k")
    assert item is not None
    assert item.value == {"data": "likes tea"}
    await store.close()
    assert seen == ["batch", "batch"]


async def test_a_value_that_postgres_refuses_fails_alone(store):
    """Upstream fails everything that was asked in the same turn of the loop."""
    values = {f"k{number}": {"data": "tea"} for number in range(20)} | {"bad": {"data": "a\0b"}}
    results = await asyncio.gather(
        *[store.aput(ADA, key, value) for key, value in values.items()], return_exceptions=True
    )
    assert isinstance(results[-1], psycopg.DataError)
    assert results[:-1] == [None] * 20
    assert len(await store.asearch(ADA, limit=100)) == 20


async def test_reads_go_on_while_one_of_them_waits(store, database_url):
    """The write of a key waits for a foreign transaction; reads of the same turn do not."""
    await store.aput(ADA, "k", {"data": "tea"})
    with psycopg.connect(database_url) as foreign:
        foreign.execute("UPDATE store SET value = '{}' WHERE key = 'k'")
        put = asyncio.ensure_future(store.aput(ADA, "k", {"data": "cake"}))
        async with asyncio.timeout(5):
            found = await asyncio.gather(*[store.asearch(ADA) for _ in range(20)])
        assert [len(items) for items in found] == [1] * 20
        assert not put.done()
        foreign.rollback()
    await put
    item = await store.aget(ADA, "k")
    assert item is not None
    assert item.value == {"data": "cake"}


async def test_of_puts_to_one_key_the_last_wins(store):
    puts = []
    for number in range(50):
        puts.append(asyncio.ensure_future(store.aput(ADA, "k", {"data": number})))
        await asyncio.sleep(0)
    await asyncio.gather(*puts)
    item = await store.aget(ADA, "k")
    assert item is not None
    assert item.value == {"data": 49}


async def test_a_cancelled_read_harms_nobody(store, pool):
    await store.aput(ADA, "k", {"data": "tea"})
    reads = [asyncio.ensure_future(store.aget(ADA, "k")) for _ in range(40)]
    for read in reads[::3]:
        read.cancel()
    results = await asyncio.gather(*reads, return_exceptions=True)
    kept = [result for number, result in enumerate(results) if number % 3]
    assert all(getattr(result, "value", None) == {"data": "tea"} for result in kept)
    await eventually(lambda: pool.figures().available == pool.figures().size)


async def test_what_was_asked_before_the_end_is_answered(pool, database_url):
    store = Store(pool, observe=lambda operation, seconds: None)
    puts = [asyncio.ensure_future(store.aput(ADA, f"k{number}", {})) for number in range(10)]
    await asyncio.sleep(0)
    await store.close()
    await asyncio.gather(*puts)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM store").fetchone() == (10,)
