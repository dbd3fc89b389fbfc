"""A local HTTP server that takes spans as a collector does: OTLP over HTTP, as protobuf.

Source: https://opentelemetry.io/docs/specs/otlp/.
"""

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.support.waiting import wait_until

SERVER, CLIENT = 2, 3
OK, ERROR = 1, 2


@dataclass(frozen=True)
class ReceivedSpan:
    name: str
    trace_id: str
    span_id: str
    #: Empty for the first span of a trace.
    parent_id: str
    kind: int
    started: int
    ended: int
    status: int
    message: str
    attributes: dict[str, Any]
    events: tuple[str, ...]
    #: Trace id and span id of each.
    links: tuple[tuple[str, str], ...]
    service: str
    resource: dict[str, Any] = field(repr=False)


class OtlpReceiver(ThreadingHTTPServer):
    """``url`` is what OTEL_EXPORTER_OTLP_ENDPOINT wants."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.spans: list[ReceivedSpan] = []
        self.headers: list[dict[str, str]] = []
        #: The bodies as they came, also what ``spans`` leaves out.
        self.bodies: list[bytes] = []
        #: What it answers; with another one it takes no spans.
        self.status = 200
        #: While this is not set, requests get no answer.
        self.answering = threading.Event()
        self.answering.set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of_trace(self, trace_id: str) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.trace_id == trace_id]

    def raw(self) -> bytes:
        """All that was sent."""
        return b"".join(self.bodies)

    def named(self, name: str) -> list[ReceivedSpan]:
        return [span for span in list(self.spans) if span.name == name]

    def wait_for(
        self, *names: str, within: Callable[[], list[ReceivedSpan]] | None = None
    ) -> list[ReceivedSpan]:
        """All spans, as soon as each of these names is among them."""
        read = within or (lambda: list(self.spans))
        wait_until(lambda: set(names) <= {span.name for span in read()}, seconds=20)
        return read()


class _Handler(BaseHTTPRequestHandler):
    server: OtlpReceiver
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.answering.wait(60)
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        assert self.path == "/v1/traces"
        assert self.headers["Content-Type"] == "application/x-protobuf"
        if self.server.status == 200:
            self.server.headers.append(dict(self.headers.items()))
            self.server.bodies.append(body)
            self.server.spans += read_spans(body)
        answer = ExportTraceServiceResponse().SerializeToString()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


def read_spans(body: bytes) -> list[ReceivedSpan]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        _span(span, _attributes(part.resource.attributes))
        for part in request.resource_spans
        for scope in part.scope_spans
        for span in scope.spans
    ]


def _span(span: Any, resource: dict[str, Any]) -> ReceivedSpan:
    return ReceivedSpan(
        name=span.name,
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        kind=span.kind,
        started=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        status=span.status.code,
        message=span.status.message,
        attributes=_attributes(span.attributes),
        events=tuple(event.name for event in span.events),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        service=str(resource.get("service.name")),
        resource=resource,
    )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    return getattr(value, kind) if kind is not None else None


Tree = tuple[str, tuple["Tree", ...]]


def forest(spans: list[ReceivedSpan]) -> list[Tree]:
    """The spans as trees of names. Children stand in the order in which they began."""
    ids = {span.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: (span.started, span.ended))

    def tree(span: ReceivedSpan) -> Tree:
        below = tuple(tree(one) for one in ordered if one.parent_id == span.span_id)
        return span.name, below

    return [tree(span) for span in ordered if span.parent_id not in ids]


def without(name: str, trees: Iterable[Tree]) -> list[Tree]:
    """The trees without spans of this name and what is below them."""
    return [(one, tuple(without(name, below))) for one, below in trees if one != name]


def drawn(spans: list[ReceivedSpan]) -> str:
    """The spans as a text tree, with what tells them apart."""
    ids = {span.span_id for span in spans}
    ordered = sorted(spans, key=lambda span: (span.started, span.ended))
    lines: list[str] = []

    def draw(span: ReceivedSpan, before: str, branch: str) -> None:
        lines.append(f"{before}{branch}{span.name}{_remarks(span)}")
        below = [one for one in ordered if one.parent_id == span.span_id]
        inner = before + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
        for one in below:
            draw(one, inner, "└─ " if one is below[-1] else "├─ ")

    for span in ordered:
        if span.parent_id not in ids:
            draw(span, "", "")
    return "\n".join(lines)


def _remarks(span: ReceivedSpan) -> str:
    shown = ("headrace.attempt", "headrace.run.status", "headrace.checkpoint.source")
    found = [str(span.attributes[key]) for key in shown if key in span.attributes]
    found = [f"attempt {one}" if one.isdigit() else one for one in found]
    found += list(span.events)
    if span.status == ERROR:
        found.append("ERROR")
    return f"  ({', '.join(found)})" if found else ""


@contextmanager
def otlp_receiver() -> Iterator[OtlpReceiver]:
    receiver = OtlpReceiver()
    thread = threading.Thread(target=receiver.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answering.set()
        receiver.shutdown()
        receiver.server_close()
        thread.join()
