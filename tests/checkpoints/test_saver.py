"""The saver on the shared pool: really pooled, timed, and the same rows as upstream's."""

import asyncio
import inspect
from contextlib import asynccontextmanager
from time import perf_counter

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.base.batch import AsyncBatchedBaseStore

from headrace.checkpoints.saver import Saver
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver

POOL_SIZE = 4


@asynccontextmanager
async def saver_on(url: str, seen: list[tuple[str, float]] | None = None, engine="group_commit"):
    record = seen if seen is not None else []
    async with (
        open_pool(url, pool_min=POOL_SIZE, pool_max=POOL_SIZE) as pool,
        open_saver(
            pool,
            engine=engine,
            observe=lambda operation, seconds: record.append((operation, seconds)),
        ) as saver,
    ):
        yield saver


def config(thread_id: str) -> RunnableConfig:
    return {"configurable": {"thread_id": thread_id, "checkpoint_ns": ""}}


async def slow_operations(saver: AsyncPostgresSaver, count: int) -> float:
    """Seconds that ``count`` concurrent operations of 100 ms in the database take."""

    async def one() -> None:
        async with saver._cursor() as cursor:
            await cursor.execute("SELECT pg_sleep(0.1)")

    started = perf_counter()
    await asyncio.gather(*[one() for _ in range(count)])
    return perf_counter() - started


async def test_k_operations_on_a_pool_of_k_take_about_the_time_of_one(
    database_url, record_property
):
    async with saver_on(database_url) as saver:
        await slow_operations(saver, 1)
        one = min([await slow_operations(saver, 1) for _ in range(3)])
        many = min([await slow_operations(saver, POOL_SIZE) for _ in range(3)])
    record_property("one_seconds", one)
    record_property("many_seconds", many)
    print(f"one operation {one:.3f} s, {POOL_SIZE} on a pool of {POOL_SIZE} {many:.3f} s")
    assert many < 1.5 * one


async def test_upstreams_saver_on_the_same_pool_takes_k_times_as_long(database_url):
    """The reason for ours; when this fails, upstream has dropped its lock."""
    async with open_pool(database_url, pool_min=POOL_SIZE, pool_max=POOL_SIZE) as pool:
        upstream = AsyncPostgresSaver(pool)
        assert await slow_operations(upstream, POOL_SIZE) > 0.1 * POOL_SIZE


@pytest.mark.parametrize("engine", ENGINES)
async def test_what_is_put_is_read_back_and_each_operation_is_timed(database_url, engine):
    seen: list[tuple[str, float]] = []
    async with saver_on(database_url, seen, engine) as saver:
        stored = await saver.aput(config("t"), empty_checkpoint(), {"step": 1}, {})
        await saver.aput_writes(stored, [("channel", "value")], "task")
        found = await saver.aget_tuple(config("t"))
        assert found is not None
        assert found.pending_writes == [("task", "channel", "value")]
        assert [item async for item in saver.alist(config("t"))] != []
        await saver.adelete_thread("t")
        assert await saver.aget_tuple(config("t")) is None
    operations = [operation for operation, _ in seen]
    assert operations == ["put", "put_writes", "get_tuple", "list", "delete_thread", "get_tuple"]
    assert all(seconds > 0 for _, seconds in seen)


@pytest.mark.parametrize("engine", ENGINES)
async def test_checkpoints_of_upstreams_saver_are_ours_and_back(database_url, engine):
    async with AsyncPostgresSaver.from_conn_string(database_url) as upstream:
        checkpoint = empty_checkpoint()
        await upstream.aput(config("t"), checkpoint, {"step": 3}, {})
        async with saver_on(database_url, engine=engine) as saver:
            found = await saver.aget_tuple(config("t"))
            assert found is not None
            assert found.checkpoint["id"] == checkpoint["id"]
            newer = empty_checkpoint()
            await saver.aput(found.config, newer, {"step": 4}, {})
        back = await upstream.aget_tuple(config("t"))
        assert back is not None
        assert back.checkpoint["id"] == newer["id"]


@pytest.mark.parametrize("name", ["_cursor", "supports_pipeline"])
def test_upstreams_saver_still_has(name):
    assert name in inspect.getsource(AsyncPostgresSaver)


def test_upstreams_cursor_takes_what_ours_takes():
    assert list(inspect.signature(AsyncPostgresSaver._cursor).parameters) == ["self", "pipeline"]
    assert list(inspect.signature(Saver._cursor).parameters) == ["self", "pipeline"]
    assert "row_factory=dict_row" in inspect.getsource(AsyncPostgresSaver._cursor)


def test_upstreams_store_still_has_its_task():
    assert "_task" in AsyncBatchedBaseStore.__slots__


async def test_a_thread_made_for_the_run_is_not_read_before_something_is_written(database_url):
    async with (
        saver_on(database_url) as saver,
        AsyncPostgresSaver.from_conn_string(database_url) as elsewhere,
    ):
        await elsewhere.aput(config("t"), empty_checkpoint(), {"step": 1}, {})
        with saver.run(fresh_thread="t") as writes:
            assert await saver.aget_tuple(config("t")) is None
            checkpoint = empty_checkpoint()
            await saver.aput(config("t"), checkpoint, {"step": 2}, {})
            found = await saver.aget_tuple(config("t"))
            await writes.committed()
    assert found is not None
    assert found.checkpoint["id"] == checkpoint["id"]
