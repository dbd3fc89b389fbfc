"""What the process remembers of delta channels: never stale, and within its bytes."""

from uuid import uuid4

import pytest
from langchain_core.messages import HumanMessage, RemoveMessage
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.store.memory import InMemoryStore

from headrace.checkpoints.channel_memory import ChannelMemory, Known, RememberedWrites
from headrace.graphs.chat import build_chat
from tests.support.database import open_pool
from tests.support.engine import open_saver

PLACE = ("thread", "", "messages")


def config(thread_id: str, checkpoint_id: str | None = None):
    where = {"thread_id": thread_id, "checkpoint_ns": ""}
    return {"configurable": where | ({"checkpoint_id": checkpoint_id} if checkpoint_id else {})}


def compiled(saver):
    return build_chat("").compile(checkpointer=saver, store=InMemoryStore())


@pytest.fixture
async def pair(database_url):
    """Two savers as two processes have them, and upstream's."""
    async with (
        open_pool(database_url) as pool,
        open_saver(pool) as one,
        open_saver(pool) as other,
        AsyncPostgresSaver.from_conn_string(database_url) as upstreams,
    ):
        yield one, other, upstreams


async def texts(graph, thread_id, checkpoint_id=None):
    state = await graph.aget_state(config(thread_id, checkpoint_id))
    return [(message.id, message.text) for message in state.values.get("messages", [])]


async def test_every_process_knows_what_the_others_have_added(pair):
    one, other, upstreams = (compiled(saver) for saver in pair)
    thread_id = str(uuid4())
    for number in range(12):
        graph = (one, other, other)[number % 3]
        await graph.ainvoke({"messages": [f"message {number}"]}, config(thread_id))
        known = [await texts(each, thread_id) for each in (one, other, upstreams)]
        assert known[0] == known[1] == known[2]
        assert len(known[0]) == 2 * (number + 1)


async def test_old_checkpoints_and_forks_are_read_as_upstream_reads_them(pair):
    one, other, upstreams = (compiled(saver) for saver in pair)
    thread_id = str(uuid4())
    for number in range(4):
        await one.ainvoke({"messages": [f"message {number}"]}, config(thread_id))
    history = [
        state.config["configurable"]["checkpoint_id"]
        async for state in upstreams.aget_state_history(config(thread_id))
    ]
    # A branch from the middle, a message replaced and one removed on it.
    first = (await texts(one, thread_id))[0][0]
    await one.aupdate_state(
        config(thread_id, history[5]),
        {"messages": [HumanMessage("another", id=first), HumanMessage("branch", id="b")]},
    )
    await other.ainvoke({"messages": ["on the branch"]}, config(thread_id))
    await one.aupdate_state(config(thread_id), {"messages": [RemoveMessage(id="b")]})
    await other.ainvoke({"messages": ["and on"]}, config(thread_id))
    everything = [
        state.config["configurable"]["checkpoint_id"]
        async for state in upstreams.aget_state_history(config(thread_id))
    ]
    for checkpoint_id in (None, *everything, *reversed(everything)):
        expected = await texts(upstreams, thread_id, checkpoint_id)
        assert await texts(one, thread_id, checkpoint_id) == expected
        assert await texts(other, thread_id, checkpoint_id) == expected


async def test_a_thread_that_was_deleted_and_made_anew_has_nothing_of_the_old_one(pair):
    one, other, _ = (compiled(saver) for saver in pair)
    thread_id = str(uuid4())
    for graph in (one, other):
        await graph.ainvoke({"messages": ["old"]}, config(thread_id))
    await pair[0].adelete_thread(thread_id)
    await one.ainvoke({"messages": ["new"]}, config(thread_id))
    await other.ainvoke({"messages": ["new too"]}, config(thread_id))
    assert (await texts(one, thread_id))[0][1] == "new"
    assert len(await texts(other, thread_id)) == 4


@pytest.mark.parametrize("frequency", [2, 3])
async def test_stored_lists_on_the_way_change_nothing(pair, frequency, monkeypatch):
    monkeypatch.setattr("headrace.graphs.messages.SNAPSHOT_FREQUENCY", frequency)
    one, other, upstreams = (compiled(saver) for saver in pair)
    for graph in (one, other, upstreams):
        graph.channels["messages"].snapshot_frequency = frequency
    thread_id = str(uuid4())
    for number in range(20):
        await (one, other)[number % 2].ainvoke({"messages": [f"{number}"]}, config(thread_id))
    assert await texts(one, thread_id) == await texts(upstreams, thread_id)
    assert len(await texts(other, thread_id)) == 40


async def test_upstreams_histories_are_the_same(pair):
    one, _, upstreams = pair
    graph, thread_id = compiled(one), str(uuid4())
    for number in range(5):
        await graph.ainvoke({"messages": [f"{number}"]}, config(thread_id))
    async for state in graph.aget_state_history(config(thread_id)):
        # A saver that remembers nothing: the whole way back.
        one._histories.memory.forget((thread_id, "", "messages"))
        where = {"config": state.config, "channels": ["messages", "none"]}
        expected = await upstreams.aget_delta_channel_history(**where)
        assert await one.aget_delta_channel_history(**where) == expected


def test_the_values_that_were_not_used_for_the_longest_time_go():
    memory = ChannelMemory(40)
    for name in "abc":
        memory.remember((name, "", "messages"), Known("1", name, 4))
        memory.known(("a", "", "messages"))
    assert memory.known(("a", "", "messages")) is not None
    assert memory.known(("b", "", "messages")) is None
    memory.remember(("a", "", "messages"), Known("2", "a", 400))
    assert memory.known(("a", "", "messages")) is None


def test_no_bytes_no_memory():
    memory = ChannelMemory(0)
    RememberedWrites([], memory, PLACE, "1", 1).remember("seed")
    assert memory.known(PLACE) is None


def test_what_is_not_used_any_more_leaves_the_memory(monkeypatch):
    now = 0.0
    monkeypatch.setattr("headrace.checkpoints.channel_memory.monotonic", lambda: now)
    memory = ChannelMemory(10_000, keep_seconds=60)
    places = [(str(number), "", "messages") for number in range(3)]
    for place in places[:2]:
        memory.remember(place, Known("c", [], 10))
    now = 50.0
    assert memory.known(places[0]) is not None
    now = 100.0
    memory.remember(places[2], Known("c", [], 10))
    assert [memory.known(place) is not None for place in places] == [True, False, True]
