"""One keep-alive connection of HTTP/1.1 with at most one request under way, read cheaply.

Requests are bytes made beforehand. Answers are read no further than needed.
"""

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

_LAST_CHUNK = b"0\r\n\r\n"
#: Of a body that a listener takes, so much is kept: the last event.
_KEPT_BYTES = 300

#: Takes each piece of an answer as it comes, with the time, by ``time.perf_counter``.
Listener = Callable[[float, bytes], None]


class ConnectionBroken(Exception):
    """The server closed a connection before its answer was complete."""


def request(
    method: str,
    path: str,
    body: Any = None,
    *,
    headers: dict[str, str] | None = None,
) -> bytes:
    """A whole HTTP/1.1 request; ``body`` becomes JSON unless it is bytes already."""
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if data:
        lines.append("Content-Type: application/json")
    if data or method not in ("GET", "DELETE"):
        lines.append(f"Content-Length: {len(data)}")
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + data


@dataclass(slots=True)
class Reply:
    """An answer: ``body`` holds the bytes after the head, in chunks if it was sent in chunks.

    ``heard`` has the time at which each piece came and the piece itself, if the script asked so.
    """

    status: int
    seconds: float
    head: bytes
    body: bytes
    heard: list[tuple[float, bytes]] | None = None

    def json(self) -> Any:
        """The body as JSON; of chunks, their contents."""
        return json.loads(_without_chunks(self.body) if self.is_chunked else self.body)

    @property
    def is_chunked(self) -> bool:
        return b"transfer-encoding: chunked" in self.head.lower()

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to wait; None where it does not."""
        _, found, rest = self.head.lower().partition(b"\r\nretry-after:")
        text = rest.partition(b"\r\n")[0].strip().decode()
        return float(text) if found and text.replace(".", "", 1).isdecimal() else None


class HttpStream(asyncio.Protocol):
    """One keep-alive connection with at most one request under way."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[Reply] | None = None
        self._pieces: list[bytes] = []
        self._started = 0.0
        self._status = 0
        self._head = b""
        self._missing: int | None = None
        self._heard: list[tuple[float, bytes]] | None = None
        self._listener: Listener | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's are no subclass of it.
        self._transport = cast(asyncio.Transport, transport)

    @classmethod
    async def open(cls, host: str, port: int) -> "HttpStream":
        _, stream = await asyncio.get_running_loop().create_connection(cls, host, port)
        return stream

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def ask(
        self, data: bytes, *, timed: bool = False, listener: Listener | None = None
    ) -> Reply:
        """
        :raises ConnectionBroken: it ended before the answer was complete.
        """
        if self._transport is None or self._transport.is_closing():
            raise ConnectionBroken
        self._answer = asyncio.get_running_loop().create_future()
        self._pieces, self._head, self._missing = [], b"", None
        self._heard = [] if timed else None
        self._listener = listener
        self._started = time.perf_counter()
        self._transport.write(data)
        return await self._answer

    def data_received(self, data: bytes) -> None:
        if self._heard is not None:
            self._heard.append((time.perf_counter(), data))
        if not self._head:
            data = self._read_head(data)
            if not self._head:
                return
        if self._listener is None:
            self._pieces.append(data)
        else:
            self._listener(time.perf_counter(), data)
            self._pieces = [b"".join((*self._pieces, data))[-_KEPT_BYTES:]]
        if self._missing is None:
            # A last chunk cut in two shows only together with what came before it.
            tail = data if len(data) >= 7 else b"".join(self._pieces[-7:])
            if tail.endswith(_LAST_CHUNK) and (tail[-7:-5] == b"\r\n" or tail == _LAST_CHUNK):
                self._complete()
            return
        self._missing -= len(data)
        if self._missing <= 0:
            self._complete()

    def _read_head(self, data: bytes) -> bytes:
        """The bytes after the head; the head is empty as long as it is not complete."""
        if self._pieces:
            data = b"".join((*self._pieces, data))
        head, found, rest = data.partition(b"\r\n\r\n")
        if not found:
            self._pieces = [data]
            return b""
        self._pieces = []
        self._head, self._status = head, int(head[9:12])
        lower = head.lower()
        _, known, value = lower.partition(b"\r\ncontent-length:")
        if known:
            self._missing = int(value.partition(b"\r\n")[0])
        elif b"transfer-encoding: chunked" not in lower:
            self._missing = 0
        return rest

    def _complete(self) -> None:
        answer, self._answer = self._answer, None
        if answer is None or answer.done():
            return
        taken = time.perf_counter() - self._started
        body = b"".join(self._pieces)
        answer.set_result(Reply(self._status, taken, self._head, body, self._heard))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionBroken())

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


def _without_chunks(body: bytes) -> bytes:
    parts, rest = [], body
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.partition(b";")[0], 16)
        if not length:
            break
        parts.append(rest[:length])
        rest = rest[length + 2 :]
    return b"".join(parts)
