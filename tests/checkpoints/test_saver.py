"""The saver on the shared pool: really pooled, timed, and the same rows as upstream's."""

import asyncio
import math
import operator
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from inspect import signature
from time import perf_counter
from typing import Annotated, Any, TypedDict, cast

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph

from headrace.checkpoints.serializer import build_serializer
from tests.db.conditions import while_connections_break
from tests.support.chains import CHANNEL, checkpoint_of, config_of, put
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


# It has a bound on time.
@pytest.mark.alone
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


class Log(TypedDict):
    log: Annotated[list[str], operator.add]


def two_steps(saver: AsyncPostgresSaver, edge: Callable[[], Awaitable[None]]) -> Any:
    """A graph that awaits ``edge`` when its first node is done, on its way to the second."""

    async def way(_: Log) -> str:
        await edge()
        return "second"

    graph = StateGraph(Log)
    graph.add_node("first", lambda _: {"log": ["first"]})
    graph.add_node("second", lambda _: {"log": ["second"]})
    graph.add_edge(START, "first")
    graph.add_conditional_edges("first", way, ["second"])
    graph.add_edge("second", END)
    return graph.compile(checkpointer=saver)


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_run_cancelled_between_a_nodes_values_and_its_edge_goes_on_with_the_next(
    database_url, engine
):
    """LangGraph hands over half of what such a task writes, and takes it for done with that."""
    at_the_edge, opened = asyncio.Event(), asyncio.Event()

    async def edge() -> None:
        at_the_edge.set()
        await opened.wait()

    async with saver_on(database_url, engine=engine) as saver:
        graph = two_steps(saver, edge)

        async def follow() -> None:
            # As runs do: while somebody streams from within, LangGraph stores what was cancelled.
            async for _ in graph.astream({"log": []}, config("t"), stream_mode=["custom"]):
                pass

        run = asyncio.ensure_future(follow())
        await at_the_edge.wait()
        run.cancel()
        with suppress(asyncio.CancelledError):
            await run
        left = await graph.aget_state(config("t"))
        opened.set()
        values = await graph.ainvoke(None, config("t"))
    assert (left.next, left.values) == (("first",), {"log": []})
    assert values == {"log": ["first", "second"]}


@pytest.mark.parametrize("engine", ENGINES)
async def test_so_does_a_run_that_failed_there(database_url, engine):
    failures = [ValueError("which way?")]

    async def edge() -> None:
        if failures:
            raise failures.pop()

    async with saver_on(database_url, engine=engine) as saver:
        graph = two_steps(saver, edge)
        with pytest.raises(ValueError, match="which way"):
            await graph.ainvoke({"log": []}, config("t"))
        left = await graph.aget_state(config("t"))
        values = await graph.ainvoke(None, config("t"))
    assert "which way" in left.tasks[0].error
    assert values == {"log": ["first", "second"]}


@pytest.mark.parametrize("engine", ENGINES)
async def test_a_read_of_one_checkpoint_is_repeated_on_another_connection(database_url, engine):
    """A run that starts from a checkpoint reads it so; so does whoever asks for an old state."""
    async with saver_on(database_url, engine=engine) as saver:
        await put(saver, "t", 1, "tea")

        async def read() -> None:
            found = await saver.aget_tuple(config_of("t", 1))
            assert found is not None
            assert found.checkpoint["channel_values"] == {"messages": "tea"}

        await while_connections_break(database_url, read, readers=POOL_SIZE)


@pytest.mark.parametrize("limit", [None, 4])
async def test_a_list_goes_on_where_a_connection_broke(database_url, limit):
    """A node that looks at the history of its thread must not fail over it."""
    expected = ["tea 6", "tea 5", "tea 4", "tea 3", "tea 2", "tea 1"][:limit]
    async with saver_on(database_url) as saver:
        for number in range(1, 7):
            await put(saver, "t", number, f"tea {number}")

        async def read() -> None:
            found = []
            async for item in saver.alist(config("t"), limit=limit):
                found.append(item.checkpoint["channel_values"]["messages"])
                await asyncio.sleep(0)
            assert found == expected

        await while_connections_break(database_url, read, readers=POOL_SIZE)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, "a\0b", "plain", 1e20, 1e16, 0.1, -5e-324, 2**70, 2**2000, True, None],
    ids=lambda value: repr(value)[:20],
)
async def test_plain_values_come_back_as_they_were(database_url, engine, value):
    """Though Postgres's JSON has no form for some of them, and prints others as integers."""
    async with open_pool(database_url) as pool, open_saver(pool, engine=engine) as saver:
        saver.serde = build_serializer()
        await put(saver, "t", 1, value)
        found = await saver.aget_tuple(config_of("t"))
    assert found is not None
    read = found.checkpoint["channel_values"][CHANNEL]
    assert (type(read), repr(read)) == (type(value), repr(value))


@pytest.mark.parametrize("engine", ENGINES)
async def test_metadata_that_json_cannot_hold_is_stored_in_its_nearest_form(database_url, engine):
    """Upstream refuses the row, and with it the run."""
    odd = {"step": 1, "text": "a\0b \ud800", "number": math.nan, "large": math.inf}
    async with open_pool(database_url) as pool, open_saver(pool, engine=engine) as saver:
        await saver.aput(config_of("t"), checkpoint_of(1, ["v"]), cast("Any", odd), {CHANNEL: "1"})
        found = await saver.aget_tuple(config_of("t"))
    assert found is not None
    told = cast("dict[str, Any]", found.metadata)
    # LangGraph itself takes NUL out.
    assert told["text"] == "ab \ufffd"
    assert (told["number"], told["large"]) == (None, None)


async def test_langgraph_finds_the_signature_of_a_write_without_making_it(database_url):
    for engine in ENGINES:
        async with saver_on(database_url, engine=engine) as saver:
            first = signature(saver.aput_writes)
            assert first.parameters["task_path"].default == ""
            assert signature(saver.aput_writes) is first
