"""What is recorded of attempts, and of what their graphs do."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict
from uuid import uuid4

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    StatusCode,
    TraceFlags,
    TraceState,
)
from structlog.testing import capture_logs

from headrace.tracing.exporter import CountedExporter
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

    found = open_tracer({"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url}, count=counter(counted))
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


async def run(tracer, graph, given, more=None):
    attempt = begin(tracer)
    config = {"configurable": {"thread_id": "t"}, **(more or {})}
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


@pytest.mark.parametrize("length", [400, 4_000, 30_000])
async def test_a_secret_is_masked_before_a_long_error_is_cut(tracer, receiver, length):
    """Half a URL has no password that a pattern finds."""

    def fail(state):
        for shift in range(0, 40, 8):
            words = "x" * (length + shift) + " postgresql://me:hidden-word@db/x "
            trace.get_current_span().record_exception(ValueError(words))
            trace.get_current_span().set_status(trace.StatusCode.ERROR, words)
        raise ValueError(
            ("x" * (length + 16)) + " postgresql://me:hidden-word@db/x " + "y" * length
        )

    with pytest.raises(ValueError, match="hidden"):
        await run(tracer, graph_of(fail), {})
    await tracer.close()
    sent = receiver.raw()
    assert b"xxxx" in sent
    assert b"hidden" not in sent


async def test_tags_and_metadata_of_a_caller_make_no_spans_and_no_long_names(
    tracer, receiver, counted
):
    def ask(state):
        model = GenericFakeChatModel(messages=iter([AIMessage("x")]))
        return {"said": str(model.invoke("hi").content)}

    more = {
        "tags": ["graph:step:x", "graph:step:" + "9" * 5000, "graph:step:7"],
        "metadata": {
            "ls_model_name": "sk-hidden0word1 " + "n" * 100_000,
            "ls_temperature": {"a": 1},
            "ls_max_tokens": ["x"] * 10,
            "langgraph_step": "7",
        },
    }
    await run(tracer, graph_of(ask), {}, more)
    await tracer.close()
    names = [span.name for span in receiver.spans]
    assert sorted(name[:8] for name in names) == ["chat ***", "node nod", "run g"]
    assert max(map(len, names)) < 300
    (chat,) = [span for span in receiver.spans if span.name.startswith("chat")]
    assert len(chat.attributes["gen_ai.request.model"]) <= 200
    assert "gen_ai.request.temperature" not in chat.attributes
    assert counted == {"exported": 3}


async def test_what_a_caller_writes_into_path_and_headers_is_masked_and_bounded(tracer, receiver):
    agent = b"curl/8 password=hidden-word " + b"a" * 5_000
    scope = {"path": "/x/sk-hidden0word1/" + "p" * 9_000, "headers": [(b"user-agent", agent)]}
    tracer.request(None).end("GET", None, 404, scope)
    await tracer.close()
    (span,) = receiver.spans
    assert "hidden" not in repr(span)
    assert len(repr(span)) < 3_000


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


@pytest.mark.parametrize("event", ["half a \ud800 character", 5])
async def test_a_span_that_cannot_be_encoded_takes_no_other_with_it(
    tracer, receiver, counted, event
):
    for number in range(5):
        begin(tracer, number=number + 1).end("success", error=None, interrupted=False)

    def node(state):
        trace.get_current_span().add_event(event)
        return {"said": "x"}

    with capture_logs() as lines:
        await run(tracer, graph_of(node), {})
        await tracer.close()
    assert counted["failed"] == 1
    assert counted["exported"] >= 6
    (line,) = (one for one in lines if one["event"] == "spans_not_exported")
    assert line["spans"] == 1
    assert "encode" in line["reason"]


HALF = "half a \ud800 character"


def below_state(text):
    state = TraceState([("mine", "x")])
    state._dict["mine"] = text
    given = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(1), trace_state=state)
    return trace.set_span_in_context(NonRecordingSpan(given))


@pytest.mark.parametrize(
    "record",
    [
        lambda spans: spans().start_span(
            "x", links=[Link(SpanContext(1 << 130, 1, False), {"a": 1})]
        ),
        lambda spans: spans().start_span("x", links=[Link(SpanContext(1, -1, False), {"a": 1})]),
        lambda spans: spans().start_span("x", start_time=-5),
        lambda spans: spans().start_span("x", start_time=1.5),
        lambda spans: spans().start_span("x", kind="client"),
        lambda spans: spans().start_span("x", context=below_state(HALF)),
        lambda spans: spans(name=HALF).start_span("x"),
        lambda spans: spans(schema_url=HALF).start_span("x"),
        lambda spans: spans(status=HALF).start_span("x"),
        lambda spans: spans(event_at=-1).start_span("x"),
    ],
)
async def test_no_part_of_a_span_takes_others_with_it(receiver, counted, record):
    provider = TracerProvider()

    def spans(name="mine", schema_url=None, **later):
        more.update(later)
        return provider.get_tracer(name, schema_url=schema_url)

    more: dict[str, Any] = {}
    strange = record(spans)
    if "status" in more:
        strange.set_status(StatusCode.ERROR, more["status"])
    if "event_at" in more:
        strange.add_event("early", timestamp=more["event_at"])
    batch: list[Any] = [spans().start_span("whole"), strange, spans().start_span("whole")]
    for span in batch:
        span.end()
    exporter = CountedExporter(OTLPSpanExporter(f"{receiver.url}/v1/traces"), counter(counted))
    await asyncio.to_thread(exporter.export, batch)
    assert counted == {"exported": 2, "failed": 1}
    assert len(receiver.named("whole")) == 2


def counter(counted):
    def count(outcome, number):
        counted[outcome] = counted.get(outcome, 0) + number

    return count


async def test_a_batch_that_is_too_large_is_sent_in_parts(receiver, counted):
    inner = OTLPSpanExporter(f"{receiver.url}/v1/traces", max_request_size=5 * 2**20)
    spans = TracerProvider().get_tracer("mine")
    batch: list[Any] = []
    for size in (2, 2, 2, 6):
        with spans.start_as_current_span(f"of {size}") as span:
            span.set_attribute("text", "x" * size * 2**20)
        batch.append(span)
    exporter = CountedExporter(inner, counter(counted))
    await asyncio.to_thread(exporter.export, batch)
    assert counted == {"exported": 3, "failed": 1}
    assert len(receiver.named("of 2")) == 3


async def test_spans_that_are_left_at_the_end_are_counted(tracer, receiver, counted):
    begin(tracer).end("success", error=None, interrupted=False)
    await tracer.close()
    assert counted == {"exported": 1}
