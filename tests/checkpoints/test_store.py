"""The store: timed, batched, and nobody waits for or fails with a stranger."""

import asyncio
import math

import psycopg
import pytest
from langgraph.store.base import InvalidNamespaceError

from headrace.checkpoints.store import Store
from headrace.checkpoints.store_sweeper import StoreSweeper
from headrace.unavailable_errors import DatabaseUnavailable
from tests.db.conditions import kill_backends
from tests.support.database import open_pool
from tests.support.proxy import proxied
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


async def test_a_key_that_postgres_refuses_fails_alone(store):
    """Upstream fails everything that was asked in the same turn of the loop."""
    keys = [*(f"k{number}" for number in range(20)), "bad\0"]
    results = await asyncio.gather(
        *[store.aput(ADA, key, {"data": "tea"}) for key in keys], return_exceptions=True
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


async def test_what_upstream_refuses_fails_alone_too(store):
    results = await asyncio.gather(
        store.asearch(ADA, filter={"data": {"$like": "x"}}),
        store.aput(ADA, "k" * 30_000 + str(list(range(9_000))), {}),
        store.aput((), "no-namespace", {"data": 1}),
        store.aput(ADA, "good", {"data": "tea"}),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [
        ValueError,
        psycopg.errors.ProgramLimitExceeded,
        InvalidNamespaceError,
        type(None),
    ]
    assert [item.key for item in await store.asearch(ADA)] == ["good"]


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800b", "a\N{REPLACEMENT CHARACTER}b"),
        (r"\u0000", r"\u0000"),
        ([math.nan, math.inf], [None, None]),
        (2**70, 2**70),
        ({1}, [1]),
        ({(1, 2): 3}, {"(1, 2)": 3}),
    ],
    ids=repr,
)
async def test_every_value_has_a_form(store, value, stored):
    await store.aput(ADA, "k", {"data": value})
    item = await store.aget(ADA, "k")
    assert item is not None
    assert item.value == {"data": stored}


async def test_what_has_expired_is_not_seen_and_swept_by_one_of_several(store, pool):
    counted: list[int] = []
    sweepers = [StoreSweeper(pool, interval_seconds=60, count=counted.append) for _ in range(3)]
    for number in range(50):
        await store.aput(ADA, f"k{number}", {}, ttl=1)
    await store.aput(ADA, "lives", {}, ttl=60)
    await store.aput(ADA, "stays", {})
    async with pool.connection() as connection:
        await connection.execute("UPDATE store SET expires_at = now() WHERE ttl_minutes = 1")
    assert {item.key for item in await store.asearch(ADA, limit=100)} == {"lives", "stays"}
    assert await store.aget(ADA, "k1") is None
    deleted = await asyncio.gather(*[sweeper.sweep(batch=4) for sweeper in sweepers])
    assert sum(deleted) == sum(counted) == 50
    async with pool.connection() as connection:
        left = await connection.execute("SELECT key FROM store ORDER BY key")
        assert await left.fetchall() == [("lives",), ("stays",)]


async def test_what_meets_a_dead_connection_is_repeated(store, database_url):
    """Reads and writes of many callers go on while every connection is ended, again and again."""
    rounds = 0
    ended = asyncio.Event()

    async def use(number: int) -> int:
        turns = 0
        while not ended.is_set():
            await store.aput(ADA, f"k{number}", {"turn": turns})
            item = await store.aget(ADA, f"k{number}")
            assert item is not None
            assert item.value == {"turn": turns}
            assert await store.asearch(ADA, filter={"turn": turns}, limit=1)
            assert ADA in await store.alist_namespaces()
            turns += 1
            nonlocal rounds
            rounds += 1
        return turns

    callers = [asyncio.ensure_future(use(number)) for number in range(8)]
    killed = 0
    for _ in range(6):
        wanted = rounds + 8
        await eventually(lambda: rounds > wanted or any(one.done() for one in callers))  # noqa: B023
        killed += await asyncio.to_thread(kill_backends, database_url)
    ended.set()
    turns = await asyncio.gather(*callers)
    assert killed > 6
    assert min(turns) > 0
    items = {item.key: item.value for item in await store.asearch(ADA, limit=100)}
    assert items == {f"k{number}": {"turn": count - 1} for number, count in enumerate(turns)}


async def test_a_silent_server_is_not_waited_for(database_url):
    async with (
        proxied(database_url) as proxy,
        open_pool(proxy.url, pool_min=1, pool_max=1) as pool,
    ):
        store = Store(pool, observe=lambda operation, seconds: None, operation_timeout_seconds=0.2)
        await store.aput(ADA, "k", {"data": "tea"})
        proxy.half_open()
        async with asyncio.timeout(10):
            item = await store.aget(ADA, "k")
        assert item is not None
        assert item.value == {"data": "tea"}
        await store.close()


async def test_a_server_that_stays_away_is_told_in_our_own_words(database_url):
    async with (
        proxied(database_url) as proxy,
        open_pool(proxy.url, pool_min=1, pool_max=1) as pool,
    ):
        store = Store(
            pool,
            observe=lambda operation, seconds: None,
            acquire_timeout_seconds=0.2,
            operation_timeout_seconds=0.2,
            retry_seconds=0.5,
        )
        proxy.stall()
        proxy.cut()
        with pytest.raises(DatabaseUnavailable):
            await store.aput(ADA, "k", {"data": "tea"})
        proxy.flow()
        await store.close()
