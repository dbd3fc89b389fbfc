"""The messages of the built-in graph: merged as add_messages merges, however they are replayed."""

import copy
import inspect
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from typing import Any, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
)
from langgraph.channels import DeltaChannel
from langgraph.graph import message as upstream
from langgraph.graph.message import REMOVE_ALL_MESSAGES, MessagesState, add_messages
from langgraph.pregel import _messages as upstream_ids
from langgraph.types import Overwrite

from headrace.checkpoints.upstream import GIVES_IDS
from headrace.graphs.conversation import Conversation, merge
from headrace.graphs.messages import SNAPSHOT_FREQUENCY, ChatState, MessagesChannel

ids = st.sampled_from("abcdef")
texts = st.text(max_size=3)
messages = st.builds(HumanMessage, texts, id=ids) | st.builds(AIMessage, texts, id=ids)
odd = st.one_of(
    st.builds(lambda id: RemoveMessage(id=id), ids),
    st.just(RemoveMessage(id=REMOVE_ALL_MESSAGES)),
    st.builds(AIMessageChunk, texts, id=ids),
    st.builds(lambda text, id: {"role": "user", "content": text, "id": id}, texts, ids),
)
one_message = st.one_of(messages, messages, messages, odd)
#: What one step may write: a list of messages or a message.
writes = st.lists(st.lists(one_message, max_size=4) | one_message, max_size=6)


def outcome(call):
    """What the call returns, or the class of what it raises."""
    try:
        return call()
    except ValueError as error:
        return type(error)


@given(writes, writes)
def test_it_is_add_messages_one_write_after_the_other(before, after):
    def fold():
        messages: Any = []
        for write in copy.deepcopy(before + after):
            messages = add_messages(messages, write)
        return messages

    expected = outcome(fold)
    assert outcome(lambda: merge([], copy.deepcopy(before + after))) == expected


@given(writes, writes)
def test_how_writes_are_batched_does_not_matter(before, after):
    def in_two():
        return merge(merge([], before), after)

    assert outcome(in_two) == outcome(lambda: merge([], before + after))


@given(st.lists(st.tuples(st.integers(0, 30), st.lists(messages, max_size=3)), max_size=12))
def test_conversations_that_grow_out_of_one_do_not_see_each_other(steps):
    """Each step takes one of those that are there and goes on from it."""
    conversations = [Conversation.of([])]
    expected: list[Any] = [[]]
    for number, write in steps:
        at = number % len(conversations)
        conversations.append(conversations[at].after([write]))
        expected.append(add_messages(list(expected[at]), write))
    assert [one.messages() for one in conversations] == expected
    assert [len(one) for one in conversations] == [len(one) for one in expected]


def test_threads_that_go_on_from_one_conversation_at_once_do_not_see_each_other():
    begin = Conversation.of([HumanMessage("hello", id="0")])

    def talk(name):
        at = begin
        for number in range(300):
            at = at.after([AIMessage("", id=f"{name} {number}")])
        return [message.id for message in at.messages()]

    with ThreadPoolExecutor(8) as threads:
        for name, said in enumerate(threads.map(talk, range(8))):
            assert said == ["0", *(f"{name} {number}" for number in range(300))]


def test_a_conversation_that_goes_on_copies_no_list():
    begin = Conversation.of([HumanMessage("hello", id=str(number)) for number in range(20_000)])
    kept = [begin]
    tracemalloc.start()
    try:
        for number in range(100):
            kept.append(kept[-1].after([[AIMessage("", id=f"answer {number}")]]))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # A list of 20,000 takes 160 kB. One of them is made longer in place.
    assert [len(one) for one in kept] == list(range(20_000, 20_101))
    assert peak < 2_000_000, peak


def test_a_reader_may_change_its_list():
    channel = MessagesChannel().from_checkpoint([HumanMessage("hello", id="1")])
    channel.update([AIMessage("hi", id="2")])
    other = channel.copy()
    channel.get().clear()
    other.update([HumanMessage("bye", id="3")])
    assert [message.id for message in other.get()] == ["1", "2", "3"]


@given(writes, writes)
def test_what_it_is_given_stays_as_it_is(before, after):
    state = outcome(lambda: merge([], before))
    if state is ValueError:
        return
    was = copy.deepcopy((state, after))
    outcome(lambda: merge(state, after))
    assert (state, after) == was


def replayed(channel, *steps):
    """The list after ``steps``, live and as a later read replays it."""
    live = channel.from_checkpoint([])
    for step in steps:
        live.update(step)
    read = channel.from_checkpoint([])
    read.replay_writes([("task", "messages", write) for step in steps for write in step])
    return live.get(), read.get()


def test_an_overwrite_starts_anew():
    hello, bye = HumanMessage("hello", id="1"), HumanMessage("bye", id="2")
    live, read = replayed(MessagesChannel(), [[hello]], [Overwrite([])], [[bye]])
    assert live == read == [bye]


def test_a_message_that_is_not_there_cannot_be_removed():
    channel = MessagesChannel().from_checkpoint([])
    with pytest.raises(ValueError, match="doesn't exist"):
        channel.update([RemoveMessage(id="gone")])


def test_all_of_them_can_be_removed_at_once():
    hello, bye = HumanMessage("hello", id="1"), HumanMessage("bye", id="2")
    live, read = replayed(
        MessagesChannel(), [[hello]], [[RemoveMessage(id=REMOVE_ALL_MESSAGES), bye]]
    )
    assert live == read == [bye]


def test_a_copy_and_a_read_are_the_same_kind_of_channel():
    channel = MessagesChannel(snapshot_frequency=7)
    for other in (channel.copy(), channel.from_checkpoint([SystemMessage("s", id="1")])):
        assert type(other) is MessagesChannel
        assert other == channel
        assert (other.snapshot_frequency, other.reducer) == (7, GIVES_IDS)


def test_the_state_has_the_fields_of_upstreams():
    assert get_type_hints(ChatState) == get_type_hints(MessagesState)
    (channel,) = get_type_hints(ChatState, include_extras=True)["messages"].__metadata__
    assert channel.snapshot_frequency == SNAPSHOT_FREQUENCY


def test_langgraph_still_gives_ids_by_this_name():
    """It is how text and pairs get an id before they are written."""
    assert upstream._messages_delta_reducer is GIVES_IDS
    given_ids: list = [("messages", [("user", "hi"), "you", {"role": "user", "content": "too"}])]
    upstream_ids.ensure_message_ids({"messages": MessagesChannel()}, given_ids)
    assert all(message.id for message in given_ids[0][1])
    assert list(inspect.signature(DeltaChannel.__init__).parameters)[1:] == [
        "reducer",
        "typ",
        "snapshot_frequency",
    ]
