"""Deleting some checkpoints leaves the others readable, and no rows that nobody needs."""

import asyncio

import psycopg
import pytest
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore
from psycopg.errors import DeadlockDetected, SerializationFailure

from headrace.checkpoints.deletions import retried_deletion
from headrace.graphs.chat import build_chat
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver

#: Blobs that no checkpoint refers to, and writes and parents without their checkpoint.
_LEFTOVERS = """
SELECT 'blob ' || channel FROM checkpoint_blobs b WHERE NOT EXISTS (
    SELECT FROM checkpoints c WHERE c.thread_id = b.thread_id
    AND c.checkpoint_ns = b.checkpoint_ns
    AND c.checkpoint -> 'channel_versions' ->> b.channel = b.version)
UNION ALL
SELECT 'write ' || channel FROM checkpoint_writes w WHERE NOT EXISTS (
    SELECT FROM checkpoints c WHERE c.thread_id = w.thread_id
    AND c.checkpoint_ns = w.checkpoint_ns AND c.checkpoint_id = w.checkpoint_id)
UNION ALL
SELECT 'parent' FROM checkpoints k WHERE k.parent_checkpoint_id IS NOT NULL AND NOT EXISTS (
    SELECT FROM checkpoints c WHERE c.thread_id = k.thread_id
    AND c.checkpoint_ns = k.checkpoint_ns AND c.checkpoint_id = k.parent_checkpoint_id)
"""


@pytest.fixture(params=ENGINES)
async def saver(request, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=request.param) as opened:
        yield opened


async def leftovers(url):
    async with await psycopg.AsyncConnection.connect(url) as connection:
        cursor = await connection.execute(_LEFTOVERS)
        return [row[0] for row in await cursor.fetchall()]


def whole_lists(saver):
    async def reply(state: MessagesState):
        return {"messages": [("ai", f"{len(state['messages'])}")]}

    builder = StateGraph(MessagesState).add_node("reply", reply).add_edge(START, "reply")
    return builder.compile(checkpointer=saver)


def chat(saver):
    return build_chat("").compile(checkpointer=saver, store=InMemoryStore())


class Thread:
    def __init__(self, graph, thread_id="t"):
        self.graph = graph
        self.config = {"configurable": {"thread_id": thread_id, "user_id": None}}

    async def run(self, run_id, **options):
        return await self.graph.ainvoke(
            {"messages": [("user", run_id)]},
            {**self.config, "metadata": {"run_id": run_id}},
            **options,
        )

    async def values(self):
        """By run, those of each of its checkpoints."""
        found: dict[str, list] = {}
        async for one in self.graph.aget_state_history(self.config):
            found.setdefault(one.metadata["run_id"], []).append(one.values)
        return found


@pytest.mark.parametrize("run_id", ["one", "two", "three"])
async def test_the_checkpoints_of_other_runs_stay_as_they_are(saver, database_url, run_id):
    thread, other = Thread(whole_lists(saver)), Thread(whole_lists(saver), "other")
    for text in ("one", "two", "three"):
        await thread.run(text)
    await other.run(f"not {run_id}")
    before = await thread.values()
    await saver.adelete_for_runs([run_id])
    del before[run_id]
    assert await thread.values() == before
    assert list(await other.values()) == [f"not {run_id}"]
    assert await leftovers(database_url) == []
    await thread.run("four")
    assert await leftovers(database_url) == []


@pytest.mark.parametrize("durability", ["async", "exit"])
async def test_a_thread_goes_on_where_its_last_run_began(saver, durability):
    thread = Thread(chat(saver))
    first = await thread.run("one", durability=durability)
    await thread.run("two", durability=durability)
    await saver.adelete_for_runs(["two"])
    assert (await thread.graph.aget_state(thread.config)).values == first
    third = await thread.run("three", durability=durability)
    assert third["messages"][:2] == first["messages"]
    assert [one.text for one in third["messages"][2:3]] == ["three"]
    assert (await thread.graph.aget_state(thread.config)).values == third


async def test_what_later_checkpoints_are_made_of_is_not_deleted(saver):
    thread = Thread(chat(saver))
    for text in ("one", "two", "three"):
        await thread.run(text)
    before = await thread.values()
    with pytest.raises(NotImplementedError, match=r"DeltaChannel.*: t$"):
        await saver.adelete_for_runs(["two"])
    assert await thread.values() == before
    await saver.adelete_for_runs(["three", "two"])
    assert await thread.values() == {"one": before["one"]}


async def test_two_at_the_same_time(saver, database_url):
    threads = [Thread(whole_lists(saver), f"t{n}") for n in range(4)]
    for text in ("one", "two", "three"):
        await asyncio.gather(*[thread.run(text) for thread in threads])
    ids = [thread.config["configurable"]["thread_id"] for thread in threads]
    before = [await thread.values() for thread in threads]
    await asyncio.gather(
        *[saver.adelete_for_runs(["two", "one"]) for _ in range(3)],
        *[saver.aprune(some) for some in (ids, ids[::-1], ids, ids[::-1])],
    )
    for thread, values in zip(threads, before, strict=True):
        assert await thread.values() == {"three": values["three"][:1]}
    assert await leftovers(database_url) == []


@pytest.mark.parametrize("fault", [SerializationFailure, DeadlockDetected])
async def test_a_transaction_is_repeated_a_few_times(fault):
    attempts = []

    async def fails(times):
        attempts.append(times)
        if len(attempts) <= times:
            raise fault

    await retried_deletion(lambda: fails(7))
    assert len(attempts) == 8
    attempts.clear()
    with pytest.raises(fault):
        await retried_deletion(lambda: fails(8))
    assert len(attempts) == 8


async def test_other_failures_are_not_repeated():
    attempts = []

    async def fails():
        attempts.append(1)
        raise psycopg.errors.UndefinedTable

    with pytest.raises(psycopg.errors.UndefinedTable):
        await retried_deletion(fails)
    assert attempts == [1]
