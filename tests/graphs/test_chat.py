"""The built-in graph: a conversation, a memory per user, and a real model's protocol."""

from importlib.util import find_spec

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.store.memory import InMemoryStore

from headrace.errors import StartupRefusal
from headrace.graphs.chat import _shown, build_chat
from tests.support.openai_server import openai_server

with_models = pytest.mark.skipif(
    find_spec("langchain_openai") is None, reason="headrace[models] is not installed"
)


class Conversation:
    """One thread of the built-in graph."""

    def __init__(self, graph, thread_id, user_id=None):
        self.graph = graph
        self.config = {"configurable": {"thread_id": thread_id, "user_id": user_id}}

    async def say(self, text):
        result = await self.graph.ainvoke({"messages": [("user", text)]}, self.config)
        return result["messages"][-1].text

    async def tokens(self, text):
        stream = self.graph.astream(
            {"messages": [("user", text)]}, self.config, stream_mode="messages"
        )
        return [chunk.text async for chunk, _ in stream if chunk.text]


@pytest.fixture
def graph():
    return build_chat("").compile(checkpointer=InMemorySaver(), store=InMemoryStore())


async def test_the_model_says_that_it_is_none_and_needs_no_key(graph):
    reply = await Conversation(graph, "1").say("Hello!")
    assert reply.startswith("You said: Hello!")
    assert "need no key" in reply
    assert "HEADRACE_MODEL" in reply


async def test_it_reports_that_it_uses_no_tokens(graph):
    """The log names models that report nothing, and a newcomer's first screen shows the log."""
    talk = Conversation(graph, "1")
    await talk.say("Hello!")
    assert "".join(await talk.tokens("Hello again!")).startswith("You said: Hello again!")
    state = await graph.aget_state(talk.config)
    replies = [one for one in state.values["messages"] if one.type == "ai"]
    assert [one.usage_metadata["total_tokens"] for one in replies] == [0, 0]


async def test_a_conversation_goes_on(graph):
    talk = Conversation(graph, "1")
    await talk.say("Hi, my name is Ada.")
    assert await talk.say("What did I just say?") == "You said: Hi, my name is Ada."
    assert await talk.say("What is my name?") == "Your name is Ada."
    other = Conversation(graph, "2")
    assert await other.say("What's my name?") == "You have not told me your name."


async def test_memory_belongs_to_the_user_and_crosses_threads(graph):
    first = Conversation(graph, "1", user_id="ada@example.org")
    assert await first.say("Remember that I like green tea.") == "I will remember that."
    assert await first.say("please remember: my name is Ada") == "I will remember that."
    second = Conversation(graph, "2", user_id="ada@example.org")
    reply = await second.say("What do you remember?")
    assert reply == "You asked me to remember: I like green tea; my name is Ada."
    assert await second.say("What is my name?") == "Your name is Ada."
    other = Conversation(graph, "3", user_id="bob")
    assert await other.say("What do you remember?") == "Nothing yet."


async def test_the_same_wish_twice_is_one_memory(graph):
    talk = Conversation(graph, "1", user_id="ada")
    for _ in range(2):
        await talk.say("Remember that I like tea")
    assert await talk.say("What do you remember?") == "You asked me to remember: I like tea."


async def test_without_a_user_nothing_is_kept(graph):
    await Conversation(graph, "1").say("Remember that I like tea")
    assert await Conversation(graph, "2").say("What do you remember?") == "Nothing yet."


async def test_it_streams_its_words(graph):
    tokens = await Conversation(graph, "1").tokens("one two")
    assert tokens[:4] == ["You", " said:", " one", " two"]
    assert len(tokens) > 10


@with_models
async def test_a_real_model_is_reached_by_its_own_protocol(monkeypatch):
    with openai_server() as server:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        monkeypatch.setenv("OPENAI_BASE_URL", server.url)
        graph = build_chat("openai:gpt-5").compile(
            checkpointer=InMemorySaver(), store=InMemoryStore()
        )
        talk = Conversation(graph, "1", user_id="ada")
        assert await talk.say("Remember that I like tea") == (
            "echo: Remember that I like tea (1 messages)"
        )
        assert await talk.tokens("again") == ["echo:", " again", " (3", " messages)"]
        whole, streamed = server.requests
    assert (whole["model"], whole.get("stream", False)) == ("gpt-5", False)
    assert streamed["stream"] is True
    assert "- I like tea" in streamed["messages"][0]["content"]
    assert server.keys == ["Bearer sk-test"] * 2


@with_models
def test_no_key_is_refused_with_the_remedy(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(StartupRefusal, match=r"HR110 HEADRACE_MODEL=openai:gpt-5: .*unset") as said:
        build_chat("openai:gpt-5")
    assert "OPENAI_API_KEY" in str(said.value)


@with_models
def test_a_provider_that_is_not_installed_or_does_not_exist():
    with pytest.raises(StartupRefusal, match=r"HR110 .*langchain-anthropic"):
        build_chat("anthropic:claude-x")
    with pytest.raises(StartupRefusal, match="HR110 HEADRACE_MODEL=nonsense"):
        build_chat("nonsense")


@pytest.mark.parametrize(
    ("kinds", "count", "shown"),
    [
        ("hahah", 9, "hahah"),
        ("hahah", 2, "h"),
        ("hahahah", 3, "hah"),
        # An answer of a tool comes with the message that called the tool.
        ("hatatta", 3, "atta"),
        ("hatt", 1, "att"),
        ("tt", 1, "tt"),
        ("", 1, ""),
        # System messages at the beginning of a conversation hold for all of it.
        ("shahah", 9, "shahah"),
        ("shahah", 2, "sh"),
        ("sshahah", 3, "sshah"),
        ("shatt", 1, "satt"),
        ("hsahah", 2, "h"),
        ("ss", 1, "ss"),
    ],
)
def test_the_model_gets_the_latest_messages_and_no_answer_without_its_call(kinds, count, shown):
    made = {
        "h": HumanMessage("hi"),
        "a": AIMessage("yes"),
        "s": SystemMessage("be brief"),
        "t": ToolMessage("found", tool_call_id="1"),
    }
    messages = [made[kind] for kind in kinds]
    assert list(_shown(messages, count)) == [made[kind] for kind in shown]
