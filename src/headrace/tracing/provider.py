"""OpenTelemetry's provider of a process, made from its environment variables.

Only :func:`headrace.tracing.opened_tracer.open_tracer` loads this module, and only when traces are
on.
"""

import asyncio
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import entry_points, version
from time import time_ns
from typing import cast
from uuid import UUID

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import ConsoleSpanExporter, SpanExporter
from opentelemetry.trace import ProxyTracerProvider, Span, StatusCode

from headrace.observability.process import process_name
from headrace.thread_pool import in_a_thread
from headrace.tracing.configuration import TraceConfiguration, refuse_protocol
from headrace.tracing.exporter import CountedBatches, CountedExporter
from headrace.tracing.opened_tracer import CountSpans
from headrace.tracing.recorded_traces import (
    OuterRequest,
    RecordedAttempt,
    RecordedRequest,
    UnrecordedAttempt,
    attempt_span_id,
    below,
    run_trace_id,
)
from headrace.tracing.span_source import PresetIds, SpanSource
from headrace.tracing.trace_context import TraceContext
from headrace.tracing.tracer import AttemptTrace, RequestTrace, Tracer

_log = structlog.stdlib.get_logger("headrace.tracing")

#: The names under which exporters of each protocol register, and the packages that have them.
_OTLP = {
    "http/protobuf": ("otlp_proto_http", "opentelemetry-exporter-otlp-proto-http"),
    "grpc": ("otlp_proto_grpc", "opentelemetry-exporter-otlp-proto-grpc"),
    "http/json": ("otlp_json_http", "opentelemetry-exporter-otlp-json-http"),
}


class OpenTelemetryTracer(Tracer):
    """Records with the SDK of OpenTelemetry."""

    on = True

    def __init__(
        self,
        source: SpanSource,
        batches: Sequence[CountedBatches],
        configuration: TraceConfiguration,
        *,
        close_seconds: float,
    ) -> None:
        self._source = source
        self._batches = batches
        self._takes_callers = configuration.takes_callers
        self._close_seconds = close_seconds

    def request(self, given: TraceContext | None) -> RequestTrace:
        return self._traced_outside() or RecordedRequest(self._source, self._taken(given))

    def outer_request(self, given: TraceContext | None) -> RequestTrace:
        return self._traced_outside() or super().outer_request(self._taken(given))

    def attempt(
        self,
        context: TraceContext | None,
        run_id: UUID,
        number: int,
        *,
        thread_id: str,
        graph_id: str,
        waits_since: datetime | None,
    ) -> AttemptTrace:
        attributes = _run_attributes(run_id, thread_id, graph_id)
        parent = None if context is None else below(context)
        began_ns = time_ns()
        span = self._attempt_span(parent, run_id, number, attributes, began_ns)
        if not span.get_span_context().trace_flags.sampled:
            return UnrecordedAttempt(span)
        if waits_since is not None:
            self._queue_wait(parent, run_id, waits_since, began_ns, attributes)
        return RecordedAttempt(self._source.spans, span, attributes)

    def lost_attempt(
        self,
        context: TraceContext | None,
        run_id: UUID,
        number: int,
        *,
        thread_id: str,
        graph_id: str,
        began_at: datetime,
        lived_seconds: float,
    ) -> None:
        attributes = {
            **_run_attributes(run_id, thread_id, graph_id),
            "headrace.run.status": "lost",
            "error.type": "ProcessLost",
        }
        parent = None if context is None else below(context)
        began_ns = _nanoseconds(began_at)
        span = self._attempt_span(parent, run_id, number, attributes, began_ns)
        span.set_status(StatusCode.ERROR, "The server process was lost.")
        span.end(began_ns + int(lived_seconds * 1e9))

    def _traced_outside(self) -> RequestTrace | None:
        """The trace of a request that the user's app traces by itself."""
        current = trace.get_current_span().get_span_context()
        return OuterRequest(self._source, current) if current.is_valid else None

    def _taken(self, given: TraceContext | None) -> TraceContext | None:
        return given if self._takes_callers else None

    def _attempt_span(
        self,
        parent: Context | None,
        run_id: UUID,
        number: int,
        attributes: Mapping[str, str],
        began_ns: int,
    ) -> Span:
        return self._source.start(
            f"run {attributes['headrace.graph_id']}",
            parent,
            # Attempts of a run without a context make one trace, too.
            trace_id=run_trace_id(run_id),
            span_id=attempt_span_id(run_id, number),
            attributes={**attributes, "headrace.attempt": number},
            start_time=began_ns,
        )

    def _queue_wait(
        self,
        parent: Context | None,
        run_id: UUID,
        since: datetime,
        until_ns: int,
        attributes: Mapping[str, str],
    ) -> None:
        # The clock of the database may be ahead of this one.
        began_ns = min(_nanoseconds(since), until_ns)
        span = self._source.start(
            "queue wait",
            parent,
            trace_id=run_trace_id(run_id),
            attributes=attributes,
            start_time=began_ns,
        )
        span.end(until_ns)

    async def close(self) -> None:
        closing = [
            in_a_thread(partial(batches.close, self._close_seconds)) for batches in self._batches
        ]
        # A collector that answers nothing must not hold the process.
        await asyncio.wait(closing, timeout=2 * self._close_seconds)


def _run_attributes(run_id: UUID, thread_id: str, graph_id: str) -> dict[str, str]:
    return {
        "headrace.run_id": str(run_id),
        "headrace.thread_id": thread_id,
        "headrace.graph_id": graph_id,
        "gen_ai.conversation.id": thread_id,
    }


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1e6) * 1000


def open_provider(
    configuration: TraceConfiguration, *, count: CountSpans, close_seconds: float
) -> OpenTelemetryTracer:
    """:raises StartupRefusal: HR113 no exporter for the protocol is installed."""
    ids = PresetIds()
    provider = TracerProvider(
        resource=_resource(configuration), id_generator=ids, shutdown_on_exit=False
    )
    batches: list[CountedBatches] = []
    for name in configuration.exporters:
        # One exporter counts: the others get the spans a second time.
        counting = count if not batches else _count_nothing
        exporter = CountedExporter(_exporter(name, configuration.protocol), counting)
        batches.append(CountedBatches(exporter, counting))
        provider.add_span_processor(batches[-1])
    if isinstance(trace.get_tracer_provider(), ProxyTracerProvider):
        # Spans of the user's nodes go the same way. A provider of the user's app stays.
        trace.set_tracer_provider(provider)
    _log.info(
        "traces_on",
        exporters=list(configuration.exporters),
        protocol=configuration.protocol,
        sampler=provider.sampler.get_description(),
    )
    source = SpanSource(provider, ids)
    return OpenTelemetryTracer(source, batches, configuration, close_seconds=close_seconds)


def _count_nothing(_outcome: str, _count: int) -> None: ...


def _resource(configuration: TraceConfiguration) -> Resource:
    """The variables of the operator, and what this process is."""
    named = {} if configuration.names_service else {"service.name": "headrace"}
    return Resource.create(
        {
            "service.instance.id": process_name(),
            **named,
            "headrace.version": version("headrace"),
            "process.pid": os.getpid(),
        }
    )


def _exporter(name: str, protocol: str) -> SpanExporter:
    """:raises StartupRefusal: HR113 no exporter for the protocol is installed."""
    if name == "console":
        return ConsoleSpanExporter(out=sys.stderr)
    registered, package = _OTLP[protocol]
    for found in entry_points(group="opentelemetry_traces_exporter", name=registered):
        return cast("SpanExporter", found.load()())
    raise refuse_protocol(protocol, package)
