"""Threads of the built-in graph go on: in every read, after a cut, in this release and the next."""

import asyncio

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage, RemoveMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.serde.types import _DeltaSnapshot
from langgraph.store.memory import InMemoryStore

from headrace.graphs.chat import _build
from headrace.graphs.echo import reply_to
from headrace.states.raw_values import raw_values
from tests.support.chat_threads import GRAPHS, Thread, as_clients_see, checkpoint_id, compiled, said
from tests.support.database import open_pool
from tests.support.engine import ENGINES, open_saver


@pytest.fixture(params=ENGINES)
async def saver(request, database_url):
    async with open_pool(database_url) as pool, open_saver(pool, engine=request.param) as opened:
        yield opened


@pytest.fixture
def graph(saver):
    return compiled(saver)


@pytest.mark.parametrize("durability", ["async", "sync", "exit"])
@pytest.mark.parametrize(
    "given",
    [
        "hello",
        ["hello", "world"],
        [("user", "hello")],
        [["user", "hello"]],
        {"role": "user", "content": "hello"},
        [{"role": "user", "content": "hello"}, {"type": "human", "content": "world"}],
        [{"role": "developer", "content": "be brief"}, "hello"],
        HumanMessage("hello"),
        [HumanMessage("hello"), ("user", "world")],
    ],
    ids=str,
)
async def test_a_message_has_one_id_in_every_read(graph, given, durability):
    thread = Thread(graph, durability=durability)
    events = [
        event
        async for event in graph.astream(
            {"messages": given}, thread.config, stream_mode="values", durability=durability
        )
    ]
    seen = events[-1]["messages"]
    ids = [message.id for message in seen]
    assert all(ids)
    assert len(set(ids)) == len(ids)
    assert [message.id for message in events[-2]["messages"]] == ids[:-1]
    await thread.say("and then")
    for _ in range(2):
        assert (await thread.messages())[: len(seen)] == seen
        newest, *_ = await thread.history()
        assert newest.values["messages"][: len(seen)] == seen


async def test_a_thread_of_the_release_before_goes_on(saver):
    before = Thread(compiled(saver, "previous"))
    await before.say("one")
    await before.say("two", interrupt_before=["call_model"])
    old = await before.history()
    after = Thread(compiled(saver))
    assert [as_clients_see(one) for one in await after.history()] == list(map(as_clients_see, old))
    assert [one.values for one in await after.history()] == [one.values for one in old]

    await after.run(None)
    await after.say("What did I just say?")
    now = await after.messages()
    assert now[:3] == old[0].values["messages"]
    assert [text.split(" (")[0] for _, text in said(now)[3:]] == [
        "You said: two",
        "What did I just say?",
        "You said: two",
    ]


async def test_a_thread_of_the_release_before_is_forked_where_it_was(saver):
    before = Thread(compiled(saver, "previous"))
    await before.say("one")
    first = checkpoint_id(await before.state())
    await before.say("two")
    after = Thread(compiled(saver))
    answer = await after.say("instead", checkpoint_id=first)
    assert said(answer)[2] == ("human", "instead")
    assert answer[-1].text.startswith("You said: instead")
    await after.update(RemoveMessage(id=answer[0].id), checkpoint_id=first)
    assert [kind for kind, _ in said(await after.messages())] == ["ai"]


async def test_while_both_releases_serve_a_thread_may_go_from_one_to_the_other(saver):
    talks = [Thread(compiled(saver, which)) for which in GRAPHS]
    expected = []
    for turn in range(6):
        for talk in talks:
            await talk.say(f"{turn} {talks.index(talk)}")
            assert (await talks[0].messages()) == (await talks[1].messages())
            expected.append(f"{turn} {talks.index(talk)}")
    assert [text for kind, text in said(await talks[0].messages()) if kind == "human"] == expected


class SlowModel(BaseChatModel):
    """Answers when told to."""

    called: asyncio.Event
    may_answer: asyncio.Event

    @property
    def _llm_type(self):
        return "slow"

    def _generate(self, *_args, **_kwargs):
        raise NotImplementedError

    async def _agenerate(self, messages, *_args, **_kwargs):
        self.called.set()
        await self.may_answer.wait()
        return ChatResult(generations=[ChatGeneration(message=AIMessage(reply_to(messages)))])


@pytest.mark.parametrize("durability", ["async", "sync"])
async def test_a_turn_that_was_cut_off_goes_on(saver, durability):
    model = SlowModel(called=asyncio.Event(), may_answer=asyncio.Event())
    thread = Thread(
        _build(model).compile(checkpointer=saver, store=InMemoryStore()), durability=durability
    )
    model.may_answer.set()
    whole = await thread.say("one")
    model.called.clear()
    model.may_answer.clear()
    async with asyncio.TaskGroup() as tasks:
        cut_off = tasks.create_task(thread.say("two"))
        await model.called.wait()
        cut_off.cancel()
    at_the_cut = await thread.messages()
    assert at_the_cut[:2] == whole
    assert (await thread.state()).next == ("call_model",)

    model.may_answer.set()
    after = await thread.run(None)
    assert after[:3] == at_the_cut
    assert len(after) == 4
    assert after[-1].text.startswith("You said: two")
    assert (await thread.messages()) == after


async def test_where_the_graph_is_not_known_its_messages_are(saver):
    async def shown():
        found = await saver.aget_tuple(thread.config)
        return found.checkpoint["channel_values"].get("messages"), await raw_values(saver, found)

    thread = Thread(compiled(saver, "previous"))
    messages = await thread.say("by the release before")
    assert await shown() == (messages, {"messages": messages})
    thread = Thread(compiled(saver))
    for text in ("one", "two"):
        messages = await thread.say(text)
        assert await shown() == (None, {"messages": messages})
    first = (await thread.history())[-1]
    await thread.update(
        HumanMessage("a fork stores the whole list"), checkpoint_id=checkpoint_id(first)
    )
    stored, values = await shown()
    messages = await thread.messages()
    assert (stored, values) == (_DeltaSnapshot(messages), {"messages": messages})
