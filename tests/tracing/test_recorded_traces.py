"""What is recorded of attempts, and of what their graphs do."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace

from headrace.tracing.opened_tracer import open_tracer
from headrace.tracing.trace_context import TraceContext
from tests.support.otlp_receiver import ERROR, forest, otlp_receiver

CONTEXT = TraceContext("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", sampled=True)
NAMES: dict[str, Any] = {"thread_id": "t", "graph_id": "g"}


@pytest.fixture
def counted():
    return {}


@pytest.fixture
async def tracer(monkeypatch, receiver, counted):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)

    def count(outcome, number):
        counted[outcome] = counted.get(outcome, 0) + number

    found = open_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, count=count)
    assert found.on
    yield found
    await found.close()


@pytest.fixture
def receiver():
    with otlp_receiver() as found:
        yield found


def begin(tracer, context=CONTEXT, *, number=1, run_id=None):
    return tracer.attempt(context, run_id or uuid4(), number, waits_since=None, **NAMES)


@pytest.mark.parametrize(
    ("status", "is_error"),
    [
        ("success", False),
        ("interrupted", False),
        ("pending", False),
        ("error", True),
        ("timeout", True),
        ("lost", True),
    ],
)
async def test_only_failures_are_errors(tracer, receiver, status, is_error):
    begin(tracer).end(status, error=None, interrupted=False)
    await tracer.close()
    (span,) = receiver.spans
    assert span.attributes["headrace.run.status"] == status
    assert (span.status == ERROR) is is_error


async def test_spans_of_a_lost_attempt_find_their_parent(tracer, receiver):
    run_id, began = uuid4(), datetime.now(UTC)
    dead = begin(tracer, run_id=run_id)
    dead.checkpoint("c", {"step": 1, "source": "loop"}, 100).end(None)
    tracer.lost_attempt(CONTEXT, run_id, 1, began_at=began, lived_seconds=2.5, **NAMES)
    begin(tracer, run_id=run_id, number=2).end("success", error=None, interrupted=False)
    await tracer.close()
    assert forest(receiver.spans) == [("run g", (("checkpoint", ()),)), ("run g", ())]
    (lost,) = [span for span in receiver.spans if span.status == ERROR]
    assert lost.ended - lost.started == 2_500_000_000
    assert {span.trace_id for span in receiver.spans} == {CONTEXT.trace_id}


async def test_attempts_of_a_run_without_a_context_are_one_trace(tracer, receiver):
    run_id = uuid4()
    for number in (1, 2):
        attempt = begin(tracer, None, run_id=run_id, number=number)
        attempt.end("success", error=None, interrupted=False)
    await tracer.close()
    assert len({span.trace_id for span in receiver.spans}) == 1
    assert len({span.span_id for span in receiver.spans}) == 2


async def test_a_queue_wait_never_ends_before_it_begins(tracer, receiver):
    """The clock of the database may be ahead."""
    ahead = datetime.now(UTC) + timedelta(minutes=5)
    attempt = tracer.attempt(CONTEXT, uuid4(), 1, waits_since=ahead, **NAMES)
    attempt.end("success", error=None, interrupted=False)
    await tracer.close()
    (wait,) = receiver.named("queue wait")
    assert wait.started == wait.ended


class Said(TypedDict, total=False):
    said: str


class Heard(BaseCallbackHandler):
    def __init__(self):
        self.names = []

    def on_chain_start(self, serialized, inputs, **kwargs):
        self.names.append(kwargs.get("name"))


def graph_of(node):
    builder: StateGraph[Any, Any, Any, Any] = StateGraph(Said)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    builder.add_edge("node", END)
    return builder.compile(checkpointer=InMemorySaver())


async def run(tracer, graph, given):
    attempt = begin(tracer)
    config = {"configurable": {"thread_id": "t"}}
    attempt.observe(config)
    with attempt.entered():
        try:
            return await graph.ainvoke(given, config)
        finally:
            attempt.end("success", error=None, interrupted=False)


async def test_an_interrupt_is_an_event_and_no_error(tracer, receiver):
    graph = graph_of(lambda state: {"said": interrupt("may I?")})
    await run(tracer, graph, {})
    await run(tracer, graph, Command(resume="yes"))
    await tracer.close()
    asked, answered = receiver.named("node node")
    assert (asked.events, asked.status) == (("interrupt",), 0)
    assert (answered.events, answered.status) == ((), 0)


async def test_a_secret_in_an_error_is_masked(tracer, receiver):
    def fail(state):
        raise ValueError("postgresql://me:hidden-word@db/x refused")

    with pytest.raises(ValueError, match="refused"):
        await run(tracer, graph_of(fail), {})
    await tracer.close()
    (node,) = receiver.named("node node")
    assert (node.status, node.attributes["error.type"]) == (ERROR, "ValueError")
    assert "refused" in node.message
    assert "hidden-word" not in repr(receiver.spans)


async def test_callbacks_of_the_graph_go_on_to_work(tracer, receiver):
    heard = Heard()
    graph = graph_of(lambda state: {"said": "x"}).with_config(callbacks=[heard])
    await run(tracer, graph, {})
    await tracer.close()
    assert "node" in heard.names
    assert receiver.named("node node")


async def test_what_was_cut_off_is_sent_with_its_attempt(tracer, receiver):
    begun = asyncio.Event()

    async def node(state):
        begun.set()
        await asyncio.Event().wait()

    attempt, config = begin(tracer), {"configurable": {"thread_id": "t"}}
    attempt.observe(config)
    running = asyncio.create_task(graph_of(node).ainvoke({}, config))
    await begun.wait()
    attempt.end("interrupted", error=None, interrupted=False)
    running.cancel()
    await asyncio.wait({running})
    await tracer.close()
    (span,) = receiver.named("node node")
    assert (span.events, span.status) == (("cut off",), 0)


async def test_user_code_cannot_end_or_rename_what_is_not_its_own(tracer, receiver):
    def node(state):
        trace.get_current_span().update_name("mine")
        trace.get_current_span().set_attribute("mine", 1)
        trace.get_current_span().end()
        return {"said": "x"}

    await run(tracer, graph_of(node), {})
    await tracer.close()
    (span,) = receiver.named("node node")
    assert span.attributes["mine"] == 1


async def test_spans_that_are_left_at_the_end_are_counted(tracer, receiver, counted):
    begin(tracer).end("success", error=None, interrupted=False)
    await tracer.close()
    assert counted == {"exported": 1}
