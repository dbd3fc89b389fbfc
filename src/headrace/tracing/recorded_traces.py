"""Requests, attempts and checkpoints as OpenTelemetry's spans."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from time import time_ns
from typing import Any
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
)

from headrace.tracing.graph_callbacks import GraphCallbacks
from headrace.tracing.open_spans import OpenSpan, span_name, span_text
from headrace.tracing.span_source import SpanSource
from headrace.tracing.trace_context import TraceContext
from headrace.tracing.tracer import AttemptTrace, RequestTrace, WriteTrace

_SERVER_FAULT = 500
#: Ends of attempts that are errors. A cancelled or released run is none.
_FAILED = frozenset(("error", "timeout", "lost"))
_OTHER_METHOD = "_OTHER"
_METHODS = frozenset(
    ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
)


def span_context(context: TraceContext) -> SpanContext:
    return SpanContext(
        int(context.trace_id, 16),
        int(context.span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT),
        trace_state=TraceState.from_header([context.state]),
    )


def below(context: TraceContext) -> Context:
    """The context in which new spans are children of ``context``."""
    return trace.set_span_in_context(NonRecordingSpan(span_context(context)), Context())


def trace_context(context: SpanContext) -> TraceContext:
    return TraceContext(
        trace.format_trace_id(context.trace_id),
        trace.format_span_id(context.span_id),
        context.trace_flags.sampled,
        context.trace_state.to_header(),
    )


def attempt_span_id(run_id: UUID, number: int) -> int:
    """The id of an attempt's span follows from the attempt. So a process can tell of an attempt
    whose own process died, and spans that it had sent find their parent.
    """
    return _digest(run_id.bytes + number.to_bytes(4, "big"), 8)


def run_trace_id(run_id: UUID) -> int:
    """The id of the trace of a run without a context: all its attempts have it.

    The bits of a run's id are not random enough for samplers that compare them with a ratio.
    """
    return _digest(run_id.bytes, 16)


def _digest(content: bytes, size: int) -> int:
    return int.from_bytes(blake2b(content, digest_size=size).digest(), "big") or 1


def resumption(source: SpanSource, interrupted: TraceContext, request: SpanContext) -> TraceContext:
    """The context of a run that goes on in the trace of an earlier run, while its request has a
    trace of its own: a span without duration stands between them, and has a link to the request.
    """
    span = source.spans.start_span("resume", below(interrupted), links=[Link(request)])
    span.end()
    return trace_context(span.get_span_context())


class OuterRequest(RequestTrace):
    """A request that the user's app traces: its span is the parent of the run."""

    __slots__ = ("_context", "_source")

    def __init__(self, source: SpanSource, context: SpanContext) -> None:
        super().__init__(trace_context(context))
        self._source = source
        self._context = context

    def for_run(self, interrupted: TraceContext | None = None) -> TraceContext | None:
        if interrupted is None or self._context.trace_id == int(interrupted.trace_id, 16):
            return self.given
        return resumption(self._source, interrupted, self._context)


class RecordedRequest(RequestTrace):
    """Its span is made late, with the time of the request: a request that resumes a run belongs to
    that run's trace, and which run that is turns out on the way.
    """

    __slots__ = ("_began_ns", "_source", "_span", "_trace_id")

    def __init__(self, source: SpanSource, given: TraceContext | None) -> None:
        super().__init__(given)
        self._source = source
        self._began_ns = time_ns()
        self._span: Span | None = None
        self._trace_id = source.new_trace_id() if given is None else int(given.trace_id, 16)

    @property
    def trace_id(self) -> str:
        return trace.format_trace_id(self._trace_id)

    @property
    def log_fields(self) -> Mapping[str, str]:
        return {"trace_id": self.trace_id}

    def for_run(self, interrupted: TraceContext | None = None) -> TraceContext | None:
        if interrupted is not None and self.given is None and self._span is None:
            self._trace_id = int(interrupted.trace_id, 16)
            self._begin(below(interrupted))
        own = self._begun().get_span_context()
        if interrupted is None or own.trace_id == int(interrupted.trace_id, 16):
            return trace_context(own)
        return resumption(self._source, interrupted, own)

    def end(self, method: str, route: str | None, status: int, scope: Mapping[str, Any]) -> None:
        span = self._begun()
        if span.is_recording():
            known = method if method in _METHODS else _OTHER_METHOD
            named = known if known != _OTHER_METHOD else "HTTP"
            span.update_name(f"{named} {route}" if route is not None else named)
            span.set_attributes(_request_attributes(known, route, status, scope))
            if status >= _SERVER_FAULT:
                span.set_status(StatusCode.ERROR)
        span.end()

    def _begun(self) -> Span:
        if self._span is None:
            return self._begin(None if self.given is None else below(self.given))
        return self._span

    def _begin(self, context: Context | None) -> Span:
        self._span = self._source.start(
            "HTTP",
            context,
            trace_id=self._trace_id,
            kind=SpanKind.SERVER,
            start_time=self._began_ns,
        )
        return self._span


def _request_attributes(
    method: str, route: str | None, status: int, scope: Mapping[str, Any]
) -> dict[str, Any]:
    """As in https://opentelemetry.io/docs/specs/semconv/http/http-spans/. The query is left out: it
    may hold what users wrote.
    """
    found: dict[str, Any] = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.path": span_text(scope["path"]),
        "url.scheme": scope.get("scheme", "http"),
        "network.protocol.version": scope.get("http_version", "1.1"),
        "headrace.request_id": scope.get("state", {}).get("request_id", ""),
    }
    if route is not None:
        found["http.route"] = route
    if scope.get("client"):
        found["client.address"] = scope["client"][0]
    if scope.get("server"):
        found["server.address"], found["server.port"] = scope["server"]
    for name, value in scope["headers"]:
        if name == b"user-agent":
            found["user_agent.original"] = span_name(value.decode("latin-1"))
    if status >= _SERVER_FAULT:
        found["error.type"] = str(status)
    return {name: value for name, value in found.items() if value is not None}


class UnrecordedAttempt(AttemptTrace):
    """An attempt whose trace is not sampled. Calls from its nodes say so to other services."""

    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    @contextmanager
    def entered(self) -> Iterator[None]:
        token = attach(trace.set_span_in_context(self._span))
        try:
            yield
        finally:
            detach(token)


class RecordedAttempt(AttemptTrace):
    __slots__ = ("_attributes", "_callbacks", "_open", "_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: Span, attributes: Mapping[str, str]) -> None:
        self._tracer = tracer
        self._span = span
        self._open = OpenSpan(span)
        self._attributes = attributes
        self._callbacks: GraphCallbacks | None = None

    def observe(self, config: Any) -> None:
        self._callbacks = GraphCallbacks(self._tracer, self._open, self._attributes)
        config["callbacks"] = [*(config.get("callbacks") or ()), self._callbacks]

    @contextmanager
    def entered(self) -> Iterator[None]:
        token = attach(self._open.context())
        try:
            yield
        finally:
            detach(token)

    def checkpoint(
        self, checkpoint_id: str, metadata: Mapping[str, Any], size_bytes: int | None
    ) -> WriteTrace:
        attributes: dict[str, Any] = {
            **self._attributes,
            "headrace.checkpoint.id": checkpoint_id,
            "headrace.step": metadata.get("step", 0),
            "headrace.checkpoint.source": metadata.get("source", ""),
        }
        if size_bytes is not None:
            attributes["headrace.checkpoint.bytes"] = size_bytes
        context = trace.set_span_in_context(self._above())
        return RecordedWrite(self._tracer.start_span("checkpoint", context, attributes=attributes))

    def _above(self) -> Span:
        """The node whose subgraph is stored; the attempt, if it is the graph itself."""
        current = trace.get_current_span()
        own = current.get_span_context().trace_id == self._span.get_span_context().trace_id
        return current if own and isinstance(current, OpenSpan) else self._span

    def end(self, status: str, *, error: Mapping[str, str] | None, interrupted: bool) -> None:
        if self._callbacks is not None:
            self._callbacks.close()
        self._span.set_attribute("headrace.run.status", status)
        if interrupted:
            self._span.add_event("interrupt")
        if status in _FAILED:
            told = error or {"error": status, "message": ""}
            self._span.set_attribute("error.type", told["error"])
            self._span.set_status(
                StatusCode.ERROR, span_text(f"{told['error']}: {told['message']}")
            )
        self._open.finish()


class RecordedWrite(WriteTrace):
    __slots__ = ("_span",)

    def __init__(self, span: Span) -> None:
        self._span = span

    def flushed(self, number: int, operations: int) -> None:
        self._span.set_attributes(
            {"headrace.flush.number": number, "headrace.flush.operations": operations}
        )

    def end(self, failure: BaseException | None) -> None:
        if failure is not None:
            self._span.set_attribute("error.type", type(failure).__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
