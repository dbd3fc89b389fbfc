"""The memory of the messages that a client sends on a WebSocket.

A server keeps a message until its last frame has come. Without a bound, many connections with half
a message each would take any amount of memory. So a large message takes its memory where large
bodies take theirs (``body_memory.py``), by the lengths that its frames announce. While there is
none, the connection is not read, and TCP makes the client wait.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, cast

from headrace.edge.body_memory import PIECE_BYTES, Body, BodyMemory
from headrace.edge.socket_transport import Hold, SocketTransport

#: The key in a connection's state.
_MESSAGES = "headrace_messages"


class SocketMessages:
    """The messages of one connection, from their first byte until they are answered."""

    def __init__(self, transport: SocketTransport) -> None:
        self._transport = transport
        self._meter = transport.meter
        self._changed = asyncio.Event()
        #: The memory of the message under way; None: it needs none yet.
        self._coming: Body | None = None
        #: That of each message that is whole and not answered yet; None: it is small.
        self._whole: deque[Body | None] = deque()
        self._bounded = False

    def received(self) -> None:
        """The server's protocol has taken what the transport gave on."""
        for _ in range(self._transport.take_whole()):
            self._whole.append(self._coming)
            self._coming = None
            self._changed.set()
        if self._bounded and self._meter.announced_bytes > self._held_bytes:
            self._transport.hold(Hold.MEMORY)
            self._changed.set()

    async def bound(self, memory: BodyMemory, caller: str) -> None:
        """Take memory for each large message of this caller, until the task is cancelled.

        :raises BodiesFull: no memory became free in time; the client cannot go on.
        """
        self._bounded = True
        self._transport.caller = caller
        self.received()
        try:
            while True:
                if self._meter.announced_bytes > PIECE_BYTES:
                    await self._take(memory.body(caller))
                else:
                    await self._change()
        finally:
            self._bounded = False
            for body in (self._coming, *self._whole):
                if body is not None:
                    body.release()

    def answering(self) -> Body | None:
        """The memory of the message that is answered now; None: it is small."""
        return self._whole[0] if self._whole else None

    def answered(self) -> None:
        """Give back the memory of this message."""
        if self._whole and (body := self._whole.popleft()) is not None:
            body.release()

    def leave(self) -> None:
        """End the connection when what is written is sent: its client sends what nobody reads."""
        self._transport.close()

    @property
    def _held_bytes(self) -> int:
        return PIECE_BYTES if self._coming is None else self._coming.pieces * PIECE_BYTES

    async def _take(self, body: Body) -> None:
        self._coming = body
        async with body.coming():
            while self._coming is body:
                await body.grow(self._meter.announced_bytes)
                if self._coming is body and self._meter.announced_bytes <= self._held_bytes:
                    self._transport.let_go(Hold.MEMORY)
                    await self._change()
        if body not in self._whole:
            # It was answered while it still waited.
            body.release()

    async def _change(self) -> None:
        await self._changed.wait()
        self._changed.clear()


def note_messages(state: Mapping[str, Any], messages: SocketMessages) -> dict[str, Any]:
    """The state of a connection, with its messages."""
    return {**state, _MESSAGES: messages}


def messages_of(scope: Mapping[str, Any]) -> SocketMessages | None:
    """The messages of a connection; None: another server has it, and bounds it by its own rules."""
    return cast("SocketMessages | None", scope.get("state", {}).get(_MESSAGES))
