"""WebSockets between uvicorn's protocol and their transports: bounds on frames, and on clients that
do not read.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode

from headrace.edge.socket_messages import SocketMessages
from headrace.edge.socket_transport import SocketTransport
from headrace.server.connections import Connections

#: Memory of one frame of a message whose last frame has not come, beside its bytes.
_FRAME_BYTES = 64
_TOO_BIG = Close(1009, "A message has too many frames.")


class WatchedSocket(asyncio.Protocol):
    """One WebSocket: passes on to uvicorn's protocol what comes, and measures it.

    :param max_message_bytes: the frames of an unfinished message may take so much memory besides.
    """

    def __init__(
        self,
        transport: SocketTransport,
        messages: SocketMessages,
        bounds: Connections,
        *,
        max_message_bytes: int,
    ) -> None:
        self._transport = transport
        self._protocol: Any = transport.get_protocol()
        self._messages = messages
        self._bounds = bounds
        self._most_frames = max_message_bytes // _FRAME_BYTES
        self._sent_bytes = 0
        self._unread_seconds = 0.0
        bounds.take_socket(self)

    def data_received(self, data: bytes) -> None:
        if self._transport.meter.frames > self._most_frames:
            # Frames may be empty, and then no bound on bytes counts them.
            self._bounds.record_cut("socket_frames")
            closing = Frame(Opcode.CLOSE, _TOO_BIG.serialize())
            self._transport.write(closing.serialize(mask=False))
            self._transport.close()
            return
        # First what came, for the protocol may ask for more.
        self._protocol.data_received(data)
        self._messages.received()

    def eof_received(self) -> bool | None:
        return cast("bool | None", self._protocol.eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc)
        self._bounds.forget(self)

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()

    def look(self, seconds: float) -> None:
        """End the connection if its client reads nothing of what is written for too long."""
        before, self._sent_bytes = self._sent_bytes, self._transport.sent_bytes
        if not self._transport.get_write_buffer_size() or self._sent_bytes != before:
            self._unread_seconds = 0.0
        else:
            self._unread_seconds += seconds
        if self._unread_seconds > self._bounds.limits.unread_timeout_seconds:
            self._bounds.record_cut("unread")
            self.drop()

    def drop(self) -> None:
        self._transport.abort()


class PatientSocket(WebSocketsSansIOProtocol):
    """uvicorn's protocol, but its client may answer pings late if its messages wait here."""

    def keepalive_timeout(self) -> None:
        """No answer has come in time; it may stand behind messages that wait."""
        if cast("SocketTransport", self.transport).is_behind and self.ping_timeout is not None:
            self.pong_timer = self.loop.call_later(self.ping_timeout, self.keepalive_timeout)
        else:
            super().keepalive_timeout()
