"""Sends the head of an answer and the first part of its body in one packet.

uvicorn writes the two one after the other, and uvloop makes a system call of each write: two
packets, and a client that wakes up twice.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

_HEAD = b"HTTP/1."
#: A head waits so long for its body. The answer to a run that is waited for often comes in time.
_HOLD_SECONDS = 0.1
#: A larger part is not copied together with the head.
_MAX_JOINED_BYTES = 64 * 1024


class JoinedWrites(asyncio.Transport):
    """A connection's transport that holds the head of an answer until the next write.

    A stream begins with its first event, which is sent once its run is accepted; so nobody waits
    for a head alone.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        super().__init__()
        self._transport = transport
        self._head = b""
        self._later = asyncio.get_running_loop().call_later
        self._timer: asyncio.TimerHandle | None = None
        self.is_closing: Callable[[], bool] = transport.is_closing
        self.get_extra_info: Callable[..., Any] = transport.get_extra_info
        self.get_write_buffer_size: Callable[[], int] = transport.get_write_buffer_size
        self.pause_reading: Callable[[], None] = transport.pause_reading
        self.resume_reading: Callable[[], None] = transport.resume_reading
        self.can_write_eof: Callable[[], bool] = transport.can_write_eof

    @property
    def bare(self) -> asyncio.Transport:
        """The transport without this, for another protocol."""
        self._send_head()
        return self._transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._head:
            if len(data) > _MAX_JOINED_BYTES:
                self._send_head()
            else:
                data = self._release() + data
        elif bytes(data[: len(_HEAD)]) == _HEAD:
            self._head = bytes(data)
            self._timer = self._later(_HOLD_SECONDS, self._send_head, context=Context())
            return
        self._transport.write(data)

    def write_eof(self) -> None:
        self._send_head()
        self._transport.write_eof()

    def close(self) -> None:
        self._send_head()
        self._transport.close()

    def abort(self) -> None:
        self._release()
        self._transport.abort()

    def _send_head(self) -> None:
        if self._head:
            head = self._release()
            if not self._transport.is_closing():
                self._transport.write(head)

    def _release(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        head, self._head = self._head, b""
        return head
