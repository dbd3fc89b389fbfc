"""uvicorn's HTTP protocol with bounds on the size of a request's head and on the time for its rest.

httptools accepts a head of any size and reports trailers as headers; uvicorn waits for the rest of
a request for ever. An attacker needs no key for either. Here each connection counts the bytes that
it receives, refuses with an error answer in the usual form, and is checked once a second.
"""

import asyncio
from enum import Enum, auto
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from headrace.edge.callers import address_of
from headrace.edge.departures import Lost, note_connection
from headrace.edge.exchange import exchange_of
from headrace.edge.socket_messages import SocketMessages, note_messages
from headrace.edge.socket_transport import SocketTransport
from headrace.events.json_encoding import encode_json
from headrace.server.connections import Connections
from headrace.server.joined_writes import JoinedWrites
from headrace.server.protocol_refusals import (
    ProtocolRefusal,
    bad,
    headers_too_large,
    late,
    line_too_long,
    too_many_connections,
    too_many_headers,
)
from headrace.server.socket_protocol import WatchedSocket

_VERSIONS = ("1.1", "1.0")
#: Requests that one connection may send ahead of their answers.
_MAX_PIPELINED = 16
#: A body may take the timeout without progress, and one second more for each so many bytes of it.
_LEAST_BYTES_A_SECOND = 500
#: Bytes of chunk framing allowed for each byte of the body, beside a fixed allowance.
_FRAMING_A_BYTE = 16
#: After a refusal the connection reads on for this many seconds, so that its client does not lose
#: the answer.
_LINGER_SECONDS = 2.0
#: It reads at most this many bytes meanwhile.
_LINGER_BYTES = 1024 * 1024
#: A body without progress for this many seconds may be given up to make room for a new connection.
_STALLED_SECONDS = 5.0


class _Awaited(Enum):
    """What a connection waits for while it is the client's turn."""

    NOTHING = auto()
    HEAD = auto()
    BODY = auto()


class _Refused(Exception):
    """Raised in the parser's callbacks, to stop the parser."""


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, bounds: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bounds = bounds
        self._limits = bounds.limits
        self._refusal: ProtocolRefusal | None = None
        #: Nothing more is read; answers under way are finished.
        self._deaf = False
        #: The last answer is sent.
        self._leaving = False
        self._discarded = 0
        #: Whether the head of the next request is awaited or incomplete.
        self._in_head = True
        #: The next message has begun with more than empty lines.
        self._begun = False
        self._messages = 0
        #: Bytes since the end of the last message, before the present chunk; and the bytes of this
        #: chunk.
        self._received = 0
        self._chunk = 0
        self._body = 0
        self._upgrade: bytes | None = None
        self._stalled = False
        self._lost: Lost = self.loop.create_future()
        # Results of the last checks.
        self._mark = (_Awaited.NOTHING, 0, 0)
        self._quiet_seconds = 0.0
        self._body_seconds = 0.0
        self._unsent = 0
        self._unread_seconds = 0.0

    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        self._joined = JoinedWrites(transport)
        super().connection_made(self._joined)
        if not self._bounds.admit(self, self.connections):
            self._refuse(too_many_connections(self._bounds.max_connections))

    def connection_lost(self, exc: Exception | None) -> None:
        self._joined.discard()
        super().connection_lost(exc)
        # After it, because the base class takes the connection from those that are open.
        self._bounds.forget(self)
        self._lost.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self._deaf or self._leaving:
            self._discarded += len(data)
            if self._discarded > _LINGER_BYTES:
                self.drop()
            return
        self._unset_keepalive_if_required()
        self._chunk = len(data)
        before = self._messages
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._upgraded()
            return
        except httptools.HttpParserError:
            self._refuse(self._refusal or bad("The request is not valid HTTP."))
            return
        # If a message ended in this chunk, the rest of the chunk is not counted.
        if self._messages == before:
            self._received += self._chunk
        self._chunk = 0
        if self._begun or self._received:
            self._check_progress()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        self._body = 0

    def on_headers_complete(self) -> None:
        if len(self.pipeline) >= _MAX_PIPELINED:
            self._stop(bad(f"More than {_MAX_PIPELINED} requests wait for an answer."))
        self._check_head()
        # The base class asks again later. By then ``self.headers`` may hold trailers.
        self._upgrade = super()._get_upgrade() if self.parser.should_upgrade() else None
        note_connection(self.scope["state"], self._lost)
        super().on_headers_complete()
        if self._bounds.ending:
            self.end_after_answer()
        self._in_head = False
        self._bounds.begin_work(self)
        # Trailers are counted but not passed on: their sender did not mean them as headers.
        self.headers = []

    def on_body(self, body: bytes) -> None:
        self._body += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        if len(self.headers) > self._limits.max_headers:
            self._stop(too_many_headers(self._limits))
        super().on_message_complete()
        # An idle connection keeps no headers in memory.
        self.headers = []
        self._in_head, self._begun = True, False
        self._messages += 1
        self._received = 0
        if self._stalled:
            self._stalled = False
            self._bounds.begin_work(self)

    def on_response_complete(self) -> None:
        self._joined.flush()
        super().on_response_complete()
        if self.cycle.response_complete:
            if self._deaf:
                self.transport.close()
            self._bounds.begin_wait(self)

    def handle_websocket_upgrade(self) -> None:
        self._bounds.forget(self)
        transport = SocketTransport(
            self._joined.bare, self._bounds.frame_rates, address_of(self.client)
        )
        self.transport = transport
        messages = SocketMessages(transport)
        self.app_state = note_messages(self.app_state, messages)
        super().handle_websocket_upgrade()
        most = self.config.ws_max_size
        transport.set_protocol(
            WatchedSocket(transport, messages, self._bounds, max_message_bytes=most)
        )

    def end_after_answer(self) -> None:
        """Let the answer to the last request say that it ends the connection, if it has not begun.

        An idle connection stays open: its next request may be on its way.
        """
        if self.cycle is not None and not self.cycle.response_started:
            self.cycle.keep_alive = False

    def drop(self) -> None:
        self.transport.abort()

    def look(self, seconds: float) -> None:
        if self._leaving:
            self._quiet_seconds += seconds
            if self._quiet_seconds > _LINGER_SECONDS:
                self.drop()
        elif self._is_unread(seconds):
            self._bounds.record_cut("unread")
            if self.cycle is not None and (exchange := exchange_of(self.cycle.scope)) is not None:
                exchange.note_cut("slow_client")
            self.drop()
        else:
            self._look_for_progress(seconds)

    def _get_upgrade(self) -> bytes | None:
        return self._upgrade

    def _upgraded(self) -> None:
        """Hand a WebSocket over. For any other protocol, end the connection after its answers."""
        answered = self.cycle is None or self.cycle.response_complete
        if self._should_upgrade() and answered:
            self.handle_websocket_upgrade()
            return
        self._deaf = True
        if answered:
            self.transport.close()
        else:
            self.cycle.keep_alive = False

    def _check_head(self) -> None:
        """Check the head once it is complete."""
        limits = self._limits
        version = self.parser.get_http_version()
        if version not in _VERSIONS:
            self._stop(bad("Send HTTP/1.1 or HTTP/1.0."))
        # RFC 9112, 3.2. Two names may mean two servers to a proxy and to this one.
        hosts = [name for name, _ in self.headers].count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._stop(bad("Send one Host header."))
        if len(self.url) > limits.max_request_line_bytes:
            self._stop(line_too_long(self._limits))
        if len(self.headers) > limits.max_headers:
            self._stop(too_many_headers(self._limits))
        # Compute the sum only if it may be too much.
        if self._received + self._chunk > limits.max_header_bytes and (
            sum(len(name) + len(value) + 4 for name, value in self.headers)
            > limits.max_header_bytes
        ):
            self._stop(headers_too_large(self._limits))

    def _check_progress(self) -> None:
        """Check the request after a chunk that ends inside it."""
        limits = self._limits
        if self._in_head:
            if self._begun and len(self.url) > limits.max_request_line_bytes:
                self._refuse(line_too_long(self._limits))
            elif self._begun and len(self.headers) > limits.max_headers:
                self._refuse(too_many_headers(self._limits))
            elif self._received > limits.max_header_bytes + limits.max_request_line_bytes:
                self._refuse(headers_too_large(self._limits))
        elif len(self.headers) > limits.max_headers:
            self._refuse(too_many_headers(self._limits))
        else:
            framing = self._received - self._body
            allowed = 2 * limits.max_header_bytes + limits.max_request_line_bytes
            if framing > allowed + _FRAMING_A_BYTE * self._body:
                self._refuse(bad("The body has more framing than content: extensions, trailers."))

    def _stop(self, refusal: ProtocolRefusal) -> None:
        """Refuse from within a callback of the parser."""
        self._refusal = refusal
        raise _Refused

    def _refuse(self, refusal: ProtocolRefusal) -> None:
        """Send a refusal. If an answer is under way, end the connection after it instead."""
        if self._deaf or self._leaving or self.transport.is_closing():
            return
        self._bounds.record_cut(refusal.reason)
        if self.headers:
            # No answer reads the headers of this message. Free them: the connection stays open for
            # a moment.
            self.headers.clear()
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            if self._in_head:
                self._answer(refusal)
            else:
                # The request is answered already: only the rest of its body is late or wrong.
                self._leave()
        elif self._in_head:
            self._deaf = True
        elif self.pipeline or cycle.response_started:
            self.drop()
        else:
            # The endpoint that reads this body learns that no more of it comes.
            cycle.disconnected = True
            cycle.waiting_for_100_continue = False
            cycle.message_event.set()
            self._answer(refusal)

    def _answer(self, refusal: ProtocolRefusal) -> None:
        answered = self.cycle is None or self.cycle.response_complete
        self._bounds.count_refusal(
            refusal.status, refusal.code, None if answered else self.cycle.scope
        )
        body = encode_json({"detail": refusal.detail, "code": refusal.code})
        dated = b"".join(b"%s: %s\r\n" % pair for pair in self.server_state.default_headers)
        retry = b"retry-after: 1\r\n" if refusal.status == 503 else b""
        self.transport.write(
            STATUS_LINE[refusal.status]
            + dated
            + b"content-type: application/json\r\n"
            + b"content-length: %d\r\n" % len(body)
            + retry
            + b"connection: close\r\n\r\n"
            + body
        )
        self._leave()

    def _leave(self) -> None:
        """Send nothing more, but read on for a moment. If the connection were reset now, the client
        might lose the answer.
        """
        self._leaving = True
        self._quiet_seconds = 0.0
        self._unset_keepalive_if_required()
        self._bounds.begin_leave(self)
        self.flow.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _is_unread(self, seconds: float) -> bool:
        """Whether the client has read nothing of its answer for too long."""
        before, self._unsent = self._unsent, self.transport.get_write_buffer_size()
        waits = self.flow.write_paused or self.cycle is None or self.cycle.response_complete
        if not self._unsent or not waits or self._unsent != before:
            self._unread_seconds = 0.0
        else:
            self._unread_seconds += seconds
        return self._unread_seconds > self._limits.unread_timeout_seconds

    def _look_for_progress(self, seconds: float) -> None:
        """End a request if its rest does not come."""
        mark = self._progress()
        what = mark[0]
        if mark[:2] != self._mark[:2]:
            self._body_seconds = 0.0
        if mark != self._mark:
            self._mark, self._quiet_seconds = mark, 0.0
        elif what is not _Awaited.NOTHING:
            self._quiet_seconds += seconds
        if what is _Awaited.HEAD:
            if self._quiet_seconds > self._limits.header_timeout_seconds:
                self._end_head()
        elif what is _Awaited.BODY:
            self._body_seconds += seconds
            bound = self._limits.body_timeout_seconds
            too_slow = self._body_seconds > bound + self._body / _LEAST_BYTES_A_SECOND
            if self._quiet_seconds > bound or too_slow:
                self._refuse(late("body", bound, "body_timeout"))
            elif self._quiet_seconds > _STALLED_SECONDS and not self._stalled:
                self._stalled = True
                self._bounds.begin_wait(self)

    def _progress(self) -> tuple["_Awaited", int, int]:
        """What the client has to send next, and a value that changes when it comes."""
        answered = self.cycle is None or self.cycle.response_complete
        if self._in_head:
            # Between requests uvicorn's keep-alive timer applies.
            begun = self.cycle is None or self._begun or self._received > 0
            what = _Awaited.HEAD if answered and begun else _Awaited.NOTHING
            return (what, self._messages, 0)
        if answered:
            # The rest of a body that no endpoint reads does not count as progress.
            return (_Awaited.BODY, self._messages, -1)
        # No endpoint reads the body yet, so the client may wait.
        what = _Awaited.NOTHING if self.flow.read_paused else _Awaited.BODY
        return (what, self._messages, self._body)

    def _end_head(self) -> None:
        if self._begun or self._received:
            self._refuse(late("head", self._limits.header_timeout_seconds, "header_timeout"))
        else:
            self._bounds.record_cut("header_timeout")
            self.transport.close()
