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

    The head of a stream comes with its first event, or as much later as a head may be held. An
    answer without a body ends with :meth:`flush`.
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
        self.flush()
        return self._transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._head:
            if len(data) > _MAX_JOINED_BYTES:
                self.flush()
            else:
                data = self._release() + data
        elif _is_final_head(data):
            self._head = bytes(data)
            self._timer = self._later(_HOLD_SECONDS, self.flush, context=Context())
            return
        self._transport.write(data)

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self.discard()
        self._transport.abort()

    def flush(self) -> None:
        """Send a head that is held: its answer has no body, or the client may wait for it alone."""
        if self._head:
            # Even if the transport is closing: it sends what is written until the connection is
            # lost, and a body without its head must never follow.
            self._transport.write(self._release())

    def discard(self) -> None:
        """Forget a head that is held: the connection is lost."""
        self._release()

    def _release(self) -> bytes:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        head, self._head = self._head, b""
        return head


def _is_final_head(data: bytes | bytearray | memoryview) -> bool:
    """Whether it is the head of an answer, and not ``100 Continue``, for which its client waits."""
    return bytes(data[: len(_HEAD)]) == _HEAD and bytes(data[9:10]) != b"1"
