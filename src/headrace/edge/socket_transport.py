"""What the client of a WebSocket sends, given to the server's protocol one frame at a time.

A protocol takes all frames of what was read at once. So one read of small frames would become tens
of thousands of messages in memory, and each ping an answer, though the client reads none. Here
frames wait as the bytes that came: until the socket is open, until the app has taken the message
before, until the client has read what is written, and until its caller may send more. Meanwhile
nothing more is read, and TCP makes the client wait.
"""

import asyncio
from collections.abc import Callable
from enum import Flag, auto
from typing import Any, cast

from headrace.edge.rates import Rates

#: Frames that one connection brings in one turn of the event loop.
_FRAMES_A_TURN = 16

#: How the answer begins that opens a socket.
_OPENED = b"HTTP/1.1 101 "
_FINAL, _CONTROL, _MASKED = 0x80, 0x08, 0x80
#: Bytes of a length that does not stand in the second byte of a frame, by what stands there.
_LONG = {126: 2, 127: 8}


class Hold(Flag):
    """Why no frame is given on."""

    NOTHING = 0
    #: The app has not opened the socket.
    OPENING = auto()
    #: The app has not taken the last message.
    MESSAGE = auto()
    #: The client does not read what is written.
    UNREAD = auto()
    #: There is no memory for the message that comes.
    MEMORY = auto()


#: Nothing is read for these.
_UNREADABLE = Hold.UNREAD | Hold.MEMORY


class FrameMeter:
    """Measures messages by the heads of a client's frames (RFC 6455).

    :ivar announced_bytes: of the message under way, its present frame included.
    :ivar frames: of the message under way.
    """

    def __init__(self) -> None:
        self.announced_bytes = 0
        self.frames = 0
        self._head = bytearray()
        self._final = False
        #: Bytes of the present frame that have not come yet.
        self._left = 0

    @property
    def in_frame(self) -> bool:
        """Whether a frame has begun and is not whole."""
        return bool(self._left or self._head)

    def feed(self, data: bytes) -> int:
        """Take what the client has sent; returns how many messages are whole now."""
        whole, at = 0, 0
        while at < len(data):
            at, ends_message = self.advance(data, at)
            whole += ends_message
        return whole

    def advance(self, data: bytes, at: int) -> tuple[int, bool]:
        """Take the rest of the present frame, as far as it has come.

        :returns: where the next frame begins in ``data``, and whether a message is whole now.
        """
        while at < len(data):
            if self._left:
                taken = min(self._left, len(data) - at)
                self._left -= taken
                at += taken
            else:
                self._head.append(data[at])
                at += 1
                if not self._read_head():
                    continue
            if not self._left:
                final, self._final = self._final, False
                if final:
                    self.announced_bytes = self.frames = 0
                return at, final
        return at, False

    def _read_head(self) -> bool:
        """Whether the head of a frame is whole."""
        head = self._head
        if len(head) < 2:
            return False
        long = _LONG.get(head[1] & 0x7F, 0)
        if len(head) < 2 + long + (4 if head[1] & _MASKED else 0):
            return False
        self._left = int.from_bytes(head[2 : 2 + long]) if long else head[1] & 0x7F
        if not head[0] & _CONTROL:
            self.announced_bytes += self._left
            self.frames += 1
            self._final = bool(head[0] & _FINAL)
        head.clear()
        return True


class SocketTransport(asyncio.Transport):
    """The transport of one WebSocket, after its handshake was read.

    :param rates: of the frames of all sockets.
    :ivar caller: whose frames they are.
    """

    def __init__(self, transport: asyncio.Transport, rates: Rates, caller: str) -> None:
        super().__init__()
        self._transport = transport
        self._rates = rates
        self.caller = caller
        self.meter = FrameMeter()
        self._whole = 0
        self._held = Hold.OPENING
        self._came = b""
        self._at = 0
        self._written_bytes = 0
        #: The next frame is counted, and has waited.
        self._counted = False
        self._next: asyncio.Handle | None = None
        self._lost = False
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.get_extra_info: Callable[..., Any] = transport.get_extra_info
        self.get_write_buffer_size: Callable[[], int] = transport.get_write_buffer_size
        self.set_write_buffer_limits: Callable[..., None] = transport.set_write_buffer_limits
        self.can_write_eof: Callable[[], bool] = transport.can_write_eof
        self.write_eof: Callable[[], None] = transport.write_eof
        self.close: Callable[[], None] = transport.close
        self.abort: Callable[[], None] = transport.abort

    @property
    def sent_bytes(self) -> int:
        """What the system has taken of what was written."""
        return self._written_bytes - self.get_write_buffer_size()

    @property
    def is_behind(self) -> bool:
        """Whether the client may have sent something that is not given on yet."""
        return self._at < len(self._came) or bool(self._held & _UNREADABLE)

    def take_whole(self) -> int:
        """How many messages have become whole since the last call."""
        whole, self._whole = self._whole, 0
        return whole

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = cast("asyncio.Protocol", protocol)
        self._transport.set_protocol(_Received(self, self._protocol))

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._written_bytes += len(data)
        self._transport.write(data)
        if self._held & Hold.OPENING and bytes(data[: len(_OPENED)]) == _OPENED:
            self.let_go(Hold.OPENING)

    def pause_reading(self) -> None:
        self.hold(Hold.MESSAGE)

    def resume_reading(self) -> None:
        self.let_go(Hold.MESSAGE)

    def hold(self, why: Hold) -> None:
        """Give no more frames on, for this reason."""
        self._held |= why
        self._read_on()

    def let_go(self, why: Hold) -> None:
        """This reason is over. Frames go on in the next turn of the loop."""
        if self._held & why:
            self._held &= ~why
            self._go_on_soon()

    def came(self, data: bytes) -> None:
        """The client has sent this."""
        self._came = self._came[self._at :] + data
        self._at = 0
        if self._next is None:
            self._go_on()

    def lost(self) -> None:
        """The connection is lost: nothing goes on."""
        self._lost, self._came = True, b""
        if self._next is not None:
            self._next.cancel()

    def _go_on_soon(self, seconds: float = 0.0) -> None:
        if self._next is None and not self._lost:
            loop = asyncio.get_running_loop()
            self._next = (
                loop.call_later(seconds, self._go_on) if seconds else loop.call_soon(self._go_on)
            )

    def _go_on(self) -> None:
        """Give frames on, as long as nothing holds them."""
        self._next = None
        left = _FRAMES_A_TURN
        while self._at < len(self._came) and not self._held and not self.is_closing():
            wait = self._count_frame()
            if wait or not left:
                self._go_on_soon(wait)
                break
            left -= 1
            self._counted = False
            began = self._at
            self._at, ends_message = self.meter.advance(self._came, began)
            self._whole += ends_message
            try:
                self._protocol.data_received(self._came[began : self._at])
            except BaseException:
                # The loop would end the connection too, if it had called the protocol.
                self.abort()
                raise
        self._read_on()

    def _count_frame(self) -> float:
        """Count the next frame, if it begins now; the seconds that it has to wait."""
        if self._counted or self.meter.in_frame:
            return 0.0
        self._counted = True
        return self._rates.reserve(self.caller)

    def _read_on(self) -> None:
        """Read from the client only if all that came is given on.

        While the app is busy, one read more tells that the client has left.
        """
        if self._lost or self.is_closing():
            return
        if self._at < len(self._came):
            self._transport.pause_reading()
            return
        self._came, self._at = b"", 0
        if self._held & _UNREADABLE:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()


class _Received(asyncio.Protocol):
    """Tells a :class:`SocketTransport` what happens on the connection."""

    def __init__(self, transport: SocketTransport, protocol: asyncio.Protocol) -> None:
        self._transport = transport
        self._protocol = protocol

    def data_received(self, data: bytes) -> None:
        self._transport.came(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport.lost()
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        self._transport.hold(Hold.UNREAD)
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._protocol.resume_writing()
        self._transport.let_go(Hold.UNREAD)
