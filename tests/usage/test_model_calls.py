"""Model calls are counted wherever a graph makes them, with the tokens that the model reports."""

import asyncio
import logging
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel, FakeListLLM
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.graph import END, START, StateGraph, add_messages
from langgraph.prebuilt import ToolNode
from langgraph.types import Send
from structlog.testing import capture_logs

from headrace.checkpoints.fence import RunToken
from headrace.checkpoints.tally import OTHER_MODELS, ModelUsage, Tokens, UsageTally
from headrace.errors import TokenBudgetExceeded
from headrace.ids import uuid7
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.usage.budgets import Limit
from headrace.usage.model_calls import ModelCalls, SilentModels
from tests.support.exposition import Exposition
from tests.support.openai_server import openai_server

langchain_openai = pytest.importorskip(
    "langchain_openai", reason="headrace[models] is not installed"
)

USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "total_tokens": 27,
    "prompt_tokens_details": {"cached_tokens": 5},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
USED = Tokens(input=20, output=7, cached=5, reasoning=3)


class State(TypedDict, total=False):
    messages: Annotated[list[Any], add_messages]


@pytest.fixture
def server():
    with openai_server() as running:
        running.usage = USAGE
        yield running


def model_of(server, name="gpt-5", **options):
    return langchain_openai.ChatOpenAI(
        model=name, api_key="sk-test", base_url=server.url, max_retries=0, **options
    )


class Counting:
    """What one attempt has counted, with the metrics of its process."""

    def __init__(self, *limits):
        self.metrics = Metrics(StatusBoard(None, stale_seconds=5.0))
        self.tally = UsageTally(RunToken(uuid7(), 1, uuid7()), "t")
        self.calls = ModelCalls(self.tally, self.metrics.usage, SilentModels(), limits)

    @property
    def models(self):
        return dict(self.tally.take())

    def metric(self, name, **labels):
        return Exposition(self.metrics.render().decode()).value(name, **labels)

    async def run(self, *nodes, stream_mode="values", **config):
        graph = graph_of(*nodes)
        given = {"messages": [("user", "hello there")]}
        with self.calls.counted():
            return [part async for part in graph.astream(given, config, stream_mode=stream_mode)]


def graph_of(*nodes):
    graph = StateGraph(State)
    names = [f"node{number}" for number in range(len(nodes))]
    for name, node in zip(names, nodes, strict=True):
        graph.add_node(name, node)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph.compile()


def whole(model):
    async def node(state):
        return {"messages": [await model.ainvoke(state["messages"])]}

    return node


def in_a_thread(model):
    def node(state):
        return {"messages": [model.invoke(state["messages"])]}

    return node


def streamed(model):
    async def node(state):
        chunks = [chunk async for chunk in model.astream(state["messages"])]
        return {"messages": [AIMessage("".join(chunk.text for chunk in chunks))]}

    return node


def streamed_in_a_thread(model):
    def node(state):
        return {"messages": [AIMessage("".join(one.text for one in model.stream("hello")))]}

    return node


def with_callbacks_of_its_own(model):
    """LangChain then does not pass on the callbacks of the run's config."""

    async def node(state):
        config = {"callbacks": [BaseCallbackHandler()]}
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    return node


def nested(model):
    inner = graph_of(whole(model))

    async def node(state):
        return await inner.ainvoke(state)

    return node


@pytest.mark.parametrize(
    "make",
    [
        whole,
        in_a_thread,
        streamed,
        streamed_in_a_thread,
        with_callbacks_of_its_own,
        nested,
        lambda model: graph_of(whole(model)),
    ],
)
async def test_a_call_is_counted_once_wherever_it_is_made(server, make):
    counting = Counting()
    await counting.run(make(model_of(server, stream_usage=True)))
    assert counting.models == {"gpt-5": ModelUsage(1, USED)}
    assert counting.metric("headrace_model_calls_total", model="gpt-5", outcome="success") == 1
    kinds = {"input": 20, "output": 7, "cached": 5, "reasoning": 3}
    for kind, count in kinds.items():
        found = counting.metric("headrace_model_tokens_total", model="gpt-5", kind=kind)
        assert found == count, kind
    assert counting.metric("headrace_model_seconds_count", model="gpt-5") == 1
    assert counting.tally.totals() == {"input_tokens": 20, "output_tokens": 7}


async def test_a_stream_of_messages_is_counted_and_callers_still_get_their_events(server):
    counting, heard = Counting(), []

    class Hearing(AsyncCallbackHandler):
        async def on_chat_model_start(self, *_args, **_more):
            heard.append("start")

        async def on_llm_end(self, *_args, **_more):
            heard.append("end")

    parts = await counting.run(
        whole(model_of(server, stream_usage=True)), stream_mode="messages", callbacks=[Hearing()]
    )
    assert "".join(chunk.text for chunk, _ in parts) == "echo: hello there (1 messages)"
    assert heard == ["start", "end"]
    assert counting.models == {"gpt-5": ModelUsage(1, USED)}


async def test_a_model_that_does_not_say_what_it_used_counts_with_no_tokens_and_is_named(server):
    counting = Counting()
    with capture_logs() as logs:
        # As langchain-openai does with a base_url of one's own.
        await counting.run(*[streamed(model_of(server))] * 2)
    assert counting.models == {"gpt-5": ModelUsage(2, Tokens())}
    assert [line["model"] for line in logs if line["event"] == "model_without_usage"] == ["gpt-5"]


async def test_parallel_calls_of_several_models_are_counted_each(server):
    counting = Counting()
    models = [model_of(server, f"m{number % 2}") for number in range(10)]

    async def node(state):
        await asyncio.gather(*(model.ainvoke("hello") for model in models))

    await counting.run(node)
    each = ModelUsage(5, Tokens(100, 35, 25, 15))
    assert counting.models == {"m0": each, "m1": each}


async def test_branches_that_run_beside_one_another_are_counted_each(server):
    counting, model = Counting(), model_of(server)
    graph = StateGraph(State)
    graph.add_node("ask", in_a_thread(model))
    graph.add_conditional_edges(
        START, lambda state: [Send("ask", state) for _ in range(4)], ["ask"]
    )
    compiled = graph.compile()
    with counting.calls.counted():
        await compiled.ainvoke({"messages": [("user", "hello")]})
    assert counting.models["gpt-5"].calls == 4


async def test_a_tool_that_asks_a_model_and_the_loop_around_it_are_counted(server):
    counting, inner = Counting(), model_of(server, "small")

    @tool
    def look() -> str:
        """Look it up."""
        return str(inner.invoke("look").content)

    model = model_of(server).bind_tools([look])
    graph = StateGraph(State)
    graph.add_node("agent", whole(model))
    graph.add_node("tools", ToolNode([look]))
    graph.add_edge(START, "agent")
    graph.add_conditional_edges(
        "agent", lambda state: "tools" if state["messages"][-1].tool_calls else END, ["tools", END]
    )
    graph.add_edge("tools", "agent")
    compiled = graph.compile()
    with counting.calls.counted():
        await compiled.ainvoke({"messages": [("user", "hello")]})
    assert {name: used.calls for name, used in counting.models.items()} == {"gpt-5": 2, "small": 1}


async def test_an_answer_from_the_cache_is_no_call(server):
    counting = Counting()
    model = model_of(server, cache=InMemoryCache())
    await counting.run(*[in_a_thread(model)])
    await Counting().run(whole(model))
    again = Counting()
    await again.run(whole(model))
    assert len(server.requests) == 1
    assert (counting.models["gpt-5"].calls, again.models) == (1, {})


async def test_several_answers_of_one_call_have_its_tokens_once(server):
    class Two(BaseChatModel):
        model: str = "two"

        def _generate(self, messages, stop=None, run_manager=None, **kwargs):
            used = {"input_tokens": 20, "output_tokens": 7, "total_tokens": 27}
            message = AIMessage("hi", usage_metadata=used)
            return ChatResult(generations=[ChatGeneration(message=message)] * 2)

        @property
        def _llm_type(self):
            return "two"

    counting = Counting()
    await counting.run(whole(Two()))
    assert counting.models == {"two": ModelUsage(1, Tokens(20, 7))}


async def test_a_failed_call_is_counted_as_an_error(server):
    counting = Counting()
    server.failures = [500]
    with pytest.raises(langchain_openai.chat_models.base.openai.InternalServerError):
        await counting.run(whole(model_of(server)))
    assert counting.models == {"gpt-5": ModelUsage(1, Tokens())}
    assert counting.metric("headrace_model_calls_total", model="gpt-5", outcome="error") == 1


async def test_a_call_that_nobody_waits_for_any_more_is_cancelled_and_no_error(server):
    counting = Counting()
    server.go_on.clear()
    first = asyncio.Event()

    async def node(state):
        async for chunk in model_of(server).astream("hello"):
            if chunk.text:
                first.set()

    running = asyncio.create_task(counting.run(node))
    await asyncio.wait_for(first.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    server.go_on.set()
    calls = "headrace_model_calls_total"
    assert counting.metric(calls, model="gpt-5", outcome="cancelled") == 1
    assert counting.models == {"gpt-5": ModelUsage(1, Tokens())}


async def test_a_text_model_and_a_model_without_a_name_are_counted():
    counting = Counting()
    await counting.run(
        whole(FakeListChatModel(responses=["a"])), whole(FakeListLLM(responses=["a"]))
    )
    assert counting.models == {
        "FakeListChatModel": ModelUsage(1, Tokens()),
        "FakeListLLM": ModelUsage(1, Tokens()),
    }


class Strange(BaseChatModel):
    """Says what no model should."""

    model: str
    usage: Any

    def _generate(self, messages, stop=None, run_manager=None, **kwargs):
        message = AIMessage.model_construct(content="hi", usage_metadata=self.usage)
        return ChatResult(generations=[ChatGeneration.model_construct(message=message)])

    @property
    def _llm_type(self):
        return "strange"


@pytest.mark.parametrize(
    ("name", "usage", "expected"),
    [
        ("a\x00b\n", {"input_tokens": -1, "output_tokens": 3}, ("ab", Tokens(0, 3))),
        ("x" * 999, {"input_tokens": 10**30, "output_tokens": "7"}, ("x" * 200, Tokens())),
        ("\n", {"input_token_details": 3, "input_tokens": 1}, ("unknown", Tokens(1))),
        ("m", {"input_tokens": 1, "input_token_details": {"cache_read": None}}, ("m", Tokens(1))),
    ],
)
async def test_what_a_model_says_of_itself_is_bounded(name, usage, expected):
    counting = Counting()
    with counting.calls.counted():
        await Strange(model=name, usage=usage).ainvoke("hello")
    assert counting.models == {expected[0]: ModelUsage(1, expected[1])}


def test_an_attempt_has_a_bounded_number_of_models():
    counting = Counting()
    for number in range(60):
        counting.tally.add(f"m{number}", Tokens(1, 1))
    assert len(counting.models) == 51
    assert counting.models[OTHER_MODELS] == ModelUsage(10, Tokens(10, 10))


async def test_calls_outside_of_a_run_are_not_counted(server):
    counting = Counting()
    with counting.calls.counted():
        pass
    await model_of(server).ainvoke("hello")
    assert counting.models == {}


async def test_a_node_that_asks_no_model_has_no_manager_with_our_handler():
    seen = []

    async def node(state, config):
        seen.extend(config["callbacks"].handlers)

    await Counting().run(node)
    assert seen == []


async def test_a_budget_is_exact_at_its_end(server):
    # Two calls of 27 tokens.
    counting = Counting(Limit("run", 54))
    await counting.run(*[whole(model_of(server))] * 2)
    assert counting.tally.spent == 54
    refused = Counting(Limit("run", 54))
    with pytest.raises(TokenBudgetExceeded, match=r"used 54 tokens; .*RUN_TOKENS is 54"):
        await refused.run(*[whole(model_of(server))] * 3)
    assert (refused.tally.spent, len(server.requests)) == (54, 4)
    over = Counting(Limit("run", 53))
    with pytest.raises(TokenBudgetExceeded, match=r"used 54 tokens; .*RUN_TOKENS is 53"):
        await over.run(*[whole(model_of(server))] * 2)


@pytest.mark.parametrize("make", [whole, in_a_thread, streamed, streamed_in_a_thread])
async def test_a_call_above_the_budget_raises_in_every_kind_of_node(server, make):
    before = len(server.requests)
    spent = Counting(Limit("run", 20, before=20))
    with pytest.raises(TokenBudgetExceeded):
        await spent.run(make(model_of(server, stream_usage=True)))
    assert len(server.requests) == before
    over = Counting(Limit("run", 20))
    with pytest.raises(TokenBudgetExceeded):
        await over.run(make(model_of(server, stream_usage=True)))
    assert over.tally.spent == 27


async def test_a_node_that_tries_again_is_refused_again_and_the_run_fails_in_any_case(server):
    counting, refusals = Counting(Limit("run", 20)), []

    async def stubborn(state):
        for _ in range(3):
            try:
                await model_of(server).ainvoke("hello")
            except Exception as error:
                refusals.append(type(error))

    with capture_logs() as logs, pytest.raises(TokenBudgetExceeded, match="used 27 tokens"):
        await counting.run(stubborn)
    assert refusals == [TokenBudgetExceeded] * 3
    assert len(server.requests) == 1
    told = [line for line in logs if line["event"] == "budget_exceeded"]
    assert [(one["budget"], one["allowed"], one["spent"]) for one in told] == [("run", 20, 27)]
    assert counting.metric("headrace_budget_exceeded_total", budget="run") == 1


async def test_langchain_does_not_tell_a_refusal_a_second_time(server, caplog):
    async def node(state):
        await model_of(server).ainvoke("hello")

    with pytest.raises(TokenBudgetExceeded):
        await Counting(Limit("run", 20)).run(node)
    assert [line for line in caplog.messages if "ModelCalls" in line] == []
    # Errors of other handlers, and other errors of this one, are told.
    told = logging.getLogger("langchain_core.callbacks.manager")
    told.warning("Error in %s.%s callback: %s", "Theirs", "on_llm_end", "TokenBudgetExceeded('')")
    told.warning("Error in %s.%s callback: %s", "ModelCalls", "on_llm_end", "KeyError('model')")
    assert len(caplog.messages) >= 2
    assert ["Theirs" in caplog.messages[-2], "KeyError" in caplog.messages[-1]] == [True, True]


async def test_a_node_that_raises_another_error_over_the_refusal_does_not_hide_it(server):
    async def node(state):
        try:
            await model_of(server).ainvoke("hello")
        except Exception as error:
            raise KeyError("no answer") from error

    with pytest.raises(TokenBudgetExceeded) as caught:
        await Counting(Limit("run", 20)).run(node)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("budget", ["run", "thread", "owner_day"])
def test_the_error_names_the_budget_and_what_was_spent(budget):
    message = Limit(budget, 5000, before=4000).error(1001).message
    assert "5,001" in message
    assert "5,000" in message
    assert "HEADRACE_USAGE__" in message


async def test_a_message_that_the_caller_sent_is_not_counted(server):
    counting = Counting()

    async def node(state):
        used = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18}
        return {"messages": [AIMessage("mine", usage_metadata=used), HumanMessage("and mine")]}

    await counting.run(node)
    assert counting.models == {}
