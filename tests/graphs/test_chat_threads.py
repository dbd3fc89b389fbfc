"""Threads of the built-in graph in the database hold what they held when it used MessagesState."""

import pytest
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langgraph.graph import START
from langgraph.types import Overwrite

from headrace.states.raw_values import raw_values
from tests.support.chat_threads import (
    GRAPHS,
    Thread,
    as_clients_see,
    checkpoint_id,
    compiled,
    said,
)
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver


@pytest.fixture(params=ENGINES)
async def saver(request, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=request.param) as opened:
        yield opened


async def a_life(thread: Thread) -> None:
    """Everything that clients do to a thread."""
    await thread.say("one", id="1")
    await thread.say("two", id="2")
    await thread.update(HumanMessage("deux", id="2"))
    await thread.say("three", id="3", interrupt_before=["call_model"])
    await thread.run(None)
    third = checkpoint_id(await thread.state())
    last = (await thread.messages())[-1]
    await thread.update(RemoveMessage(id="1"), RemoveMessage(id=last.id))
    await thread.say("four", id="4")
    await thread.say("instead", id="5", checkpoint_id=third)
    await thread.update(AIMessage("so be it", id="6"), as_node="call_model")
    await thread.update(HumanMessage("again", id="7"), checkpoint_id=third, as_node=START)
    await thread.run(None)
    await thread.run({"messages": Overwrite([HumanMessage("anew", id="8")])})
    await thread.say("last", id="9")


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_every_checkpoint_of_a_life_shows_what_it_showed(saver, durability):
    threads = {
        which: Thread(compiled(saver, which), which, durability=durability) for which in GRAPHS
    }
    shown = {}
    for which, thread in threads.items():
        await a_life(thread)
        shown[which] = [as_clients_see(one) for one in await thread.history()]
    assert len(shown["present"]) > 25
    assert shown["present"] == shown["previous"]


async def test_with_durability_exit_the_end_of_every_run_shows_what_it_showed(saver):
    shown: dict[str, list] = {}
    for which in GRAPHS:
        thread = Thread(compiled(saver, which), which, durability="exit")
        shown[which] = []
        for text in ("one", "two", "three"):
            await thread.say(text)
            shown[which].append(as_clients_see(await thread.state()))
        await a_life(thread)
        shown[which].append(as_clients_see(await thread.state()))
    # The first run's writes hang on an empty checkpoint that LangGraph puts before its own.
    assert (shown["present"][0].pop("is_first"), shown["previous"][0].pop("is_first")) == (
        False,
        True,
    )
    assert shown["present"] == shown["previous"]


async def test_a_stream_shows_what_it_showed(saver):
    shown: dict[str, list] = {}
    for which in GRAPHS:
        graph, shown[which] = compiled(saver, which), []
        for text in ("one", "two"):
            stream = graph.astream(
                {"messages": [("user", text)]},
                Thread(graph, which).config,
                stream_mode=["values", "updates"],
            )
            shown[which] += [
                (mode, said((event.get("call_model") or event)["messages"]))
                async for mode, event in stream
            ]
    assert shown["present"] == shown["previous"]


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize(
    "bad",
    [
        [{"role": "nonsense", "content": "x"}],
        [{"role": "user"}],
        [RemoveMessage(id="gone")],
        [{"a": 1}],
        [("user", "one", "too many")],
        7,
    ],
    ids=str,
)
async def test_a_run_that_failed_leaves_what_it_left(saver, bad, durability):
    left = {}
    for which in GRAPHS:
        thread = Thread(compiled(saver, which), which, durability=durability)
        await thread.say("one", id="1")
        with pytest.raises((ValueError, NotImplementedError)) as failure:
            await thread.run({"messages": bad})
        found = await saver.aget_tuple(thread.config)
        raw = said((await raw_values(saver, found))["messages"])
        try:
            read = said(await thread.messages())
        except (ValueError, NotImplementedError):
            read = raw  # as StateReader does
        await thread.say("two", id="2")
        left[which] = (failure.type, raw, read, said(await thread.messages()))
    assert left["present"] == left["previous"]
