"""The bounds of WebSockets of the user's own app.

The sockets of the API have their own bounds, for they know their callers. An app's sockets may be
open to everybody. So each takes a place when the app accepts it, of those of its caller: of its
key, or, where nobody has asked for one, of its address. What its client sends takes memory as
bodies do, and comes no faster than requests may. A socket on which nobody says anything is closed
after a while.
"""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from headrace.edge.body_memory import BodyMemory
from headrace.edge.callers import caller_of
from headrace.edge.gates import HeldPlaces, RequestGates
from headrace.edge.refusals import error_response
from headrace.edge.socket_messages import SocketMessages, messages_of
from headrace.edge.state import State, found_state
from headrace.errors import RequestError
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.settings import Settings
from headrace.unavailable_errors import BodiesFull

_log = structlog.stdlib.get_logger("headrace.sockets")

#: The key in the state of a socket.
_BOUNDED = "headrace_socket_bounded"
_DENIAL = "websocket.http.response"
_POLICY_VIOLATION = 1008
#: The client may try again later.
_TOO_MUCH = 1013
#: Nobody needs the socket.
_NORMAL = 1000
#: Bytes of the reason of a close, at most.
_MAX_REASON = 100


class _Closed(OSError):
    """The socket was refused or closed here. An ``OSError`` tells frameworks that it is gone."""


class SocketBounds:
    """Wraps a whole app, outside of all its middleware."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings
        #: For apps without headrace's lifespan.
        self.gates = RequestGates(settings)
        self._memory = BodyMemory(
            total_bytes=settings.requests.bodies_bytes,
            wait_seconds=settings.requests.bodies_wait_seconds,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        ours = found_state(scope.get("state", {})) or State()
        socket = _AppSocket(
            scope,
            receive,
            send,
            gates=ours.find(RequestGates) or self.gates,
            memory=ours.find(BodyMemory) or self._memory,
            metrics=ours.find(Metrics),
            idle_seconds=self._settings.server.socket_idle_seconds,
        )
        await socket.serve(self._app)


def note_bounded(scope: Scope) -> None:
    """This socket is bounded by its endpoint. Call it before the socket is accepted."""
    scope.setdefault("state", {})[_BOUNDED] = True


class _AppSocket:
    """One socket."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        *,
        gates: RequestGates,
        memory: BodyMemory,
        metrics: Metrics | None,
        idle_seconds: float,
    ) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._gates = gates
        self._memory = memory
        self._metrics = metrics
        self._idle_seconds = idle_seconds
        self._messages = messages_of(scope)
        self._caller = ""
        self._held: HeldPlaces | None = None
        self._tasks = Tasks()
        self._closed = False
        self._gone = False
        #: The client has sent a message that is not counted yet.
        self._owes = False
        self._slowed = False
        #: When the next message may be taken.
        self._paid_at = 0.0
        self._moved_at = monotonic()

    async def serve(self, app: ASGIApp) -> None:
        """Call the app. It returns when the app has ended."""
        try:
            await app(self._scope, self._received, self._sent)
        except (_Closed, WebSocketDisconnect):
            # An app that does not look whether its client has left has no fault.
            if not (self._closed or self._gone):
                raise
        finally:
            await self._tasks.stop()
            if self._held is not None:
                self._held.release()

    async def _received(self) -> Message:
        await self._pay()
        message = await self._receive()
        if message["type"] == "websocket.receive" and self._held is not None:
            self._owes, self._moved_at = True, monotonic()
            if self._messages is not None:
                # From now on the message is the app's.
                self._messages.answered()
        elif message["type"] == "websocket.disconnect":
            self._gone = True
        return message

    async def _pay(self) -> None:
        """Count the last message as a request. A caller above its rate is read slower."""
        if self._owes:
            self._owes = False
            wait = self._gates.message_rates.reserve(self._caller)
            self._paid_at = monotonic() + wait
            if wait and not self._slowed:
                self._slowed = True
                self._gates.note_slowed(self._caller)
        # The app may give up a wait and come again.
        if (left := self._paid_at - monotonic()) > 0:
            await asyncio.sleep(left)

    async def _sent(self, message: Message) -> None:
        if self._closed:
            raise _Closed
        opens = message["type"] == "websocket.accept" and self._held is None
        if opens and not self._is_bounded:
            await self._admit()
        if message["type"] == "websocket.send":
            self._moved_at = monotonic()
        try:
            await self._send(message)
        except OSError:
            self._gone = True
            raise

    @property
    def _is_bounded(self) -> bool:
        return _BOUNDED in self._scope.get("state", {})

    async def _admit(self) -> None:
        """Take a place before the app accepts.

        :raises _Closed: there is none, and the client was told.
        """
        self._caller = caller_of(self._scope)
        try:
            self._held = self._gates.socket_of_app(self._caller)
        except RequestError as error:
            self._closed = True
            await self._refuse(error)
            raise _Closed from error
        if self._messages is not None:
            self._tasks.start(self._bound(self._messages), name="socket-messages")
        if self._idle_seconds:
            self._tasks.start(self._watch(), name="socket-idle")

    async def _refuse(self, error: RequestError) -> None:
        if _DENIAL not in self._scope.get("extensions", {}):
            await self._send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        answer = error_response(error)
        head = {"status": answer.status_code, "headers": answer.raw_headers}
        await self._send({"type": f"{_DENIAL}.start", **head})
        await self._send({"type": f"{_DENIAL}.body", "body": answer.body})

    async def _bound(self, messages: SocketMessages) -> None:
        try:
            await messages.bound(self._memory, self._caller)
        except BodiesFull as fault:
            await self._close(_TOO_MUCH, fault.message, "no_memory")
            messages.leave()

    async def _watch(self) -> None:
        left = self._idle_seconds
        while left > 0:
            await asyncio.sleep(left)
            left = self._moved_at + self._idle_seconds - monotonic()
        said = f"No message came or went for {self._idle_seconds:g} s; connect again."
        await self._close(_NORMAL, said, "idle_socket")

    async def _close(self, code: int, reason: str, why: str) -> None:
        """Close the socket, though the app goes on. It is told that its client has left."""
        if self._closed or self._gone:
            return
        self._closed = True
        if self._metrics is not None:
            self._metrics.http.count_cut_connection(why)
        _log.info("app_socket_closed", reason=why, caller=self._caller)
        closing: dict[str, Any] = {"type": "websocket.close", "code": code}
        with suppress(OSError, RuntimeError):
            await self._send({**closing, "reason": reason[:_MAX_REASON]})
