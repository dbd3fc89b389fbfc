"""The WebSocket of the streaming protocol v3: commands in, answers and events out.

One connection may have several subscriptions. It holds one place of the streams of threads. Its
events are those of the route of the same path for server-sent events.
"""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any
from uuid import uuid4

import structlog
from fastapi import WebSocket
from starlette.websockets import WebSocketDisconnect, WebSocketState

from headrace.admission_errors import ReadOnly, WebSocketsOff
from headrace.auth.handlers import REQUEST, Handlers
from headrace.auth.identity import Identity
from headrace.auth.principal import Principal
from headrace.auth.store_scope import store_scope
from headrace.checkpoints.scoped_store import use_store_scope
from headrace.containment import contain
from headrace.db.faults import translated_faults
from headrace.edge.access import id_for_handlers
from headrace.edge.body_memory import Body, BodyMemory
from headrace.edge.gates import RequestGates
from headrace.edge.refusals import error_response
from headrace.edge.requests import BodyBounds, json_value
from headrace.edge.routing import new_router
from headrace.edge.socket_messages import SocketMessages, messages_of
from headrace.edge.sockets import note_bounded
from headrace.edge.state import State, configurable_headers, state_of
from headrace.edge.web_pages import WebPages
from headrace.errors import RequestError, Unauthenticated
from headrace.events.json_encoding import encode_json
from headrace.events.reader import FollowingStopped
from headrace.following.thread_runs import LastNumber, Seen
from headrace.ids import new_request_id
from headrace.lifecycle import Tasks
from headrace.protocol.command_forms import (
    Command,
    CommandRefused,
    code_of,
    command_of,
    id_within,
    refusal,
    success,
)
from headrace.protocol.commands import CommandRequest, ThreadCommands
from headrace.protocol.run_events import WireEvent
from headrace.protocol.streams import ProtocolStreams
from headrace.protocol.subscription import CHANNELS, Subscription, subscription_of
from headrace.settings import Settings
from headrace.shares import current_caller
from headrace.threads.schemas import AnyThreadId
from headrace.threads.service import ThreadService
from headrace.tracing.tracer import NO_REQUEST_TRACE
from headrace.unavailable_errors import BodiesFull, Draining, Unavailable

router = new_router(tag="threads")

_log = structlog.stdlib.get_logger("headrace.protocol")

#: Subscriptions of one connection.
_MAX_SUBSCRIPTIONS = 32
#: The server goes away; the client connects again.
_GOING_AWAY = 1012
#: The client may try again later.
_TOO_SLOW = _TOO_MUCH = 1013
_UNSUPPORTED = 1003
_DONE = 1000
#: Bytes of the reason of a close, at most.
_MAX_REASON = 100
#: The stream begins when no more subscriptions have come for so long.
_SETTLE_SECONDS = 0.02
#: The stream of a connection; its subscriptions choose from it.
_EVERYTHING = Subscription(frozenset(CHANNELS))


async def _admitted(websocket: WebSocket) -> Principal:
    """Who connects.

    :raises RequestError: the connection is refused.
    """
    state = state_of(websocket)
    if not state.get(Settings).server.websockets:
        raise WebSocketsOff
    state.get(WebPages).check_connection(websocket.scope)
    websocket.scope[REQUEST] = websocket
    principal = await state.get(Identity).principal(websocket.scope)
    current_caller.set(principal.caller)
    use_store_scope(store_scope(principal))
    if state.get(ProtocolStreams).watcher.released:
        raise Draining
    return principal


async def _refuse(websocket: WebSocket, thread_id: str, error: RequestError) -> None:
    _log.info("socket_refused", thread_id=thread_id, status=error.status, code=error.code)
    await websocket.send_denial_response(error_response(error))


async def _reader(state: State, principal: Principal, thread_id: str) -> Principal:
    """The caller as it may read the thread.

    :raises RequestError: it may not.
    """
    shown = id_for_handlers("thread_id", thread_id)
    return await state.get(Handlers).authorize(principal, "threads", "read", {"thread_id": shown})


@router.websocket("/threads/{thread_id}/stream/events")
async def converse(websocket: WebSocket, thread_id: AnyThreadId) -> None:
    """Carry out commands of the streaming protocol v3, and send the events they subscribe to."""
    contain()
    state = state_of(websocket)
    try:
        principal = await _admitted(websocket)
        state.get(RequestGates).admit(principal.caller)
        held = state.get(RequestGates).lasting(principal.caller, of_thread=True)
    except RequestError as error:
        await _refuse(websocket, thread_id, error)
        return
    try:
        with translated_faults():
            stored = await state.get(ThreadService).stored_id(principal, thread_id)
        reader = await _reader(state, principal, stored)
        note_bounded(websocket.scope)
        await websocket.accept()
        await _Conversation(websocket, stored, principal, reader).hold()
    except RequestError as error:
        await _refuse(websocket, thread_id, error)
    finally:
        held.release()


@dataclass(slots=True)
class _Subscribed:
    """A subscription of the connection.

    :ivar seen: the number up to which it has had its events; -1: none.
    :ivar joined: the stream has begun again since it was made.
    """

    subscription: Subscription
    seen: int
    joined: bool = False

    def gets(self, event: WireEvent) -> bool:
        is_new = event.number is None or event.number > self.seen
        return self.joined and is_new and self.subscription.wants(event.channel, event.namespace)


class _Conversation:
    """One connection: its commands, one after the other, and its subscriptions.

    All subscriptions share one stream of the thread. So their events come in one order, and the end
    of a run comes once, after all else. A new subscription begins the stream again: it gets what it
    has not had, and the others get nothing twice.
    """

    def __init__(
        self, websocket: WebSocket, thread_id: str, principal: Principal, reader: Principal
    ) -> None:
        state = state_of(websocket)
        self._websocket = websocket
        self._thread_id = thread_id
        self._principal = principal
        #: The caller as it may read the thread.
        self._reader = reader
        self._commands = state.get(ThreadCommands)
        self._streams = state.get(ProtocolStreams)
        self._limits = state.get(Settings).requests
        self._gates = state.get(RequestGates)
        self._memory = state.get(BodyMemory)
        self._messages = messages_of(websocket.scope)
        self._tasks = Tasks()
        self._subscriptions: dict[str, _Subscribed] = {}
        self._telling: asyncio.Task[None] | None = None
        #: The number of the last event that was looked at, and the number before its run.
        self._seen = 0
        self._number_before = 0
        self._sent = 0

    async def hold(self) -> None:
        """Talk until one of the two leaves."""
        began_at = monotonic()
        messages = self._messages
        if messages is not None:
            self._tasks.start(self._bound(messages), name=f"messages-{self._thread_id}")
        try:
            while True:
                text = await self._websocket.receive_text()
                await self._answer(text, None if messages is None else messages.answering())
                if messages is not None:
                    messages.answered()
        except KeyError:
            # Starlette looks for a text in a message of bytes.
            await self._close(_UNSUPPORTED, "Send commands as text.")
        except WebSocketDisconnect:
            return
        finally:
            await self._tasks.stop()
            _log.info(
                "socket_ended",
                thread_id=self._thread_id,
                seconds=round(monotonic() - began_at, 3),
                events=self._sent,
            )

    async def _bound(self, messages: SocketMessages) -> None:
        """Bound the memory of what the client sends. If there is none, end the connection."""
        try:
            await messages.bound(self._memory, self._principal.caller)
        except BodiesFull as fault:
            await self._close(_TOO_MUCH, fault.message[:_MAX_REASON])
            messages.leave()

    async def _answer(self, text: str, large: Body | None) -> None:
        """
        :param large: the memory of the text; None: it is small.
        """
        command: Command | None = None
        try:
            # Each command is a request, also one that cannot be read.
            self._gates.admit(self._principal.caller)
            bounds = BodyBounds.of(self._limits)
            value = await json_value(text.encode(), bounds, large)
            command = command_of(value)
            answer = await self._carried_out(command)
        except CommandRefused as refused:
            answer = refusal(refused, id_within(text) if command is None else command.command_id)
        except RequestError as error:
            told = CommandRefused(code_of(error), error.message)
            answer = refusal(told, id_within(text) if command is None else command.command_id)
        await self._send(encode_json(answer))
        if answer["type"] == "success" and answer["result"].get("subscription_id"):
            self._tell_anew()

    async def _carried_out(self, command: Command) -> dict[str, Any]:
        if command.method == "subscription.unsubscribe":
            self._unsubscribe(command.params.get("subscription_id"))
            return success(command, {})
        await self._ask_again()
        if command.method == "subscription.subscribe":
            return success(command, self._subscribe(subscription_of(command.params)))
        if self._principal.read_only:
            raise ReadOnly
        asked = CommandRequest(
            request_id=new_request_id(),
            trace=NO_REQUEST_TRACE,
            key=None,
            headers=configurable_headers(self._websocket),
        )
        with translated_faults():
            return await self._commands.carry_out(self._principal, self._thread_id, command, asked)

    async def _ask_again(self) -> None:
        """Ask again who calls, and what it may read: keys are revoked, and rights change.

        :raises RequestError: the caller may not go on.
        """
        state = state_of(self._websocket)
        principal = await state.get(Identity).ask_again(self._websocket.scope)
        if (principal.tenant, principal.identity) != (
            self._principal.tenant,
            self._principal.identity,
        ):
            raise Unauthenticated("The caller of this connection has changed; connect again.")
        self._principal = principal
        self._reader = await _reader(state, principal, self._thread_id)

    def _subscribe(self, subscription: Subscription) -> dict[str, Any]:
        if len(self._subscriptions) >= _MAX_SUBSCRIPTIONS:
            raise CommandRefused(
                "invalid_argument",
                f"A connection has at most {_MAX_SUBSCRIPTIONS} subscriptions; end one with"
                " subscription.unsubscribe.",
            )
        name = str(uuid4())
        since = -1 if subscription.since is None else subscription.since
        self._subscriptions[name] = _Subscribed(subscription, since)
        return {"subscription_id": name, "replayed_events": 0}

    def _unsubscribe(self, name: Any) -> None:
        if not isinstance(name, str) or self._subscriptions.pop(name, None) is None:
            raise CommandRefused(
                "no_such_subscription",
                "subscription_id: send the id that subscription.subscribe has answered on this"
                " connection.",
            )

    def _tell_anew(self) -> None:
        """Begin the stream again, from the first event that a subscription has not had."""
        if self._telling is not None:
            self._telling.cancel()
        self._telling = self._tasks.start(self._tell(), name=f"socket-{self._thread_id}")

    def _begin(self) -> Seen:
        """Where the stream begins. All subscriptions have had what they get up to ``_seen``, but
        the new ones.
        """
        wanted = [one.seen for one in self._subscriptions.values()]
        if not self._seen:
            return "newest" if min(wanted) < 0 else LastNumber(min(wanted))
        return LastNumber(min(self._number_before if one < 0 else one for one in wanted))

    async def _tell(self) -> None:
        # Clients subscribe several times in a row, and take the end of a run for the end of all.
        await asyncio.sleep(_SETTLE_SECONDS)
        if not self._subscriptions:
            return
        begin = self._begin()
        for one in self._subscriptions.values():
            one.joined = True
        try:
            stream = await self._streams.open(self._reader, self._thread_id, _EVERYTHING, begin)
            async with aclosing(stream.events()) as events:
                async for event in events:
                    if any(one.gets(event) for one in self._subscriptions.values()):
                        await self._send(event.message)
                        self._sent += 1
                    self._note_seen(event, stream.number_before)
            await self._close(_DONE, "The thread was deleted.")
        except FollowingStopped as stopped:
            slow = stopped.reason == "slow_client"
            await self._close(_TOO_SLOW if slow else _GOING_AWAY, "Connect again.")
        except Unavailable as fault:
            await self._close(_GOING_AWAY, fault.message[:_MAX_REASON])
        except WebSocketDisconnect:
            return

    def _note_seen(self, event: WireEvent, number_before: int) -> None:
        if event.number is None:
            return
        self._seen = max(self._seen, event.number)
        self._number_before = max(self._number_before, number_before)
        for one in self._subscriptions.values():
            if one.joined:
                one.seen = max(one.seen, event.number)

    async def _send(self, message: bytes) -> None:
        await self._websocket.send_text(message.decode())

    async def _close(self, code: int, reason: str) -> None:
        if self._websocket.application_state is WebSocketState.CONNECTED and (
            self._websocket.client_state is WebSocketState.CONNECTED
        ):
            with suppress(WebSocketDisconnect, RuntimeError):
                await self._websocket.close(code, reason)
