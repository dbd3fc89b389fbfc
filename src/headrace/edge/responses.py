"""JSON answers with values of graphs, which only headrace's encoder can write.

A large answer is sent piece by piece. It holds memory for answers until it is sent.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Mapping
from contextlib import aclosing
from typing import Any

import structlog
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.checkpoints.answer_memory import Reading
from headrace.edge.exchange import exchange_of
from headrace.events.json_encoding import PIECE_BYTES, encode_json, json_pieces, sliced

#: A client must take so many bytes within ``answers.send_seconds``.
_PACE_BYTES = 4 * 1024 * 1024

_log = structlog.stdlib.get_logger("headrace.answers")


def json_response(value: Any, *, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode_json(value), headers=dict(headers or {}), media_type="application/json")


def held_response(
    value: Any, reading: Reading, *, headers: Mapping[str, str] | None = None
) -> Response:
    """An answer with ``value``; the memory of ``reading`` is released when the answer is sent."""
    if not reading.held:
        return json_response(value, headers=headers)
    return PiecesResponse(json_pieces(value), reading, headers=headers)


def page_response(
    items: list[bytes], reading: Reading, *, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON array of items that are JSON text already."""
    if not reading.held:
        body = b"[" + b",".join(items) + b"]"
        return Response(body, headers=dict(headers or {}), media_type="application/json")
    return PiecesResponse(_joined(items), reading, headers=headers)


async def list_response(
    items: AsyncGenerator[Any, None], reading: Reading, *, headers: Mapping[str, str] | None = None
) -> Response:
    """A JSON array of items that are still being read. A small one is sent at once."""
    begun: list[bytes] = []
    pieces = list_pieces(items, reading)
    async for piece in pieces:
        begun.append(piece)
        if reading.held or sum(map(len, begun)) > PIECE_BYTES:
            return PiecesResponse(_after(begun, pieces), reading, headers=headers)
    return Response(b"".join(begun), headers=dict(headers or {}), media_type="application/json")


async def list_pieces(
    items: AsyncGenerator[Any, None], reading: Reading
) -> AsyncGenerator[bytes, None]:
    """The JSON array of ``items``. Each item is freed before the next one is read."""
    separator = b"["
    async with aclosing(items):
        async for item in items:
            yield separator
            separator = b","
            # Writing in pieces is slower: do it only for large answers.
            for piece in json_pieces(item) if reading.held else (encode_json(item),):
                yield piece
            del item
    yield b"[]" if separator == b"[" else b"]"


class PiecesResponse(Response):
    """A body in pieces. If the client takes them too slowly, the answer is broken off."""

    def __init__(
        self,
        pieces: AsyncIterable[bytes] | Iterable[bytes],
        reading: Reading,
        *,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(headers=dict(headers or {}), media_type="application/json")
        # Response set the length of an empty body.
        del self.headers["content-length"]
        self._pieces = pieces
        self._reading = reading

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        memory = self._reading.memory
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async with _Pace(memory.settings.send_seconds) as pace:
                async for piece in gathered(self._pieces):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                    pace.sent(len(piece))
                    # A client that reads fast never lets this task wait.
                    await asyncio.sleep(0)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except TimeoutError:
            # The body stays incomplete, so the client notices.
            memory.count("cut")
            if (exchange := exchange_of(scope)) is not None:
                exchange.note_cut("slow_client")
            _log.warning("slow_answer_cut", path=scope["path"])
        finally:
            self._reading.release()


class _Pace:
    """Raises TimeoutError when ``_PACE_BYTES`` take longer than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._sent = 0

    async def __aenter__(self) -> "_Pace":
        await self._timeout.__aenter__()
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        await self._timeout.__aexit__(*exc_info)

    def sent(self, size: int) -> None:
        self._sent += size
        if self._sent >= _PACE_BYTES:
            self._sent = 0
            self._timeout.reschedule(asyncio.get_running_loop().time() + self._seconds)


async def gathered(
    pieces: AsyncIterable[bytes] | Iterable[bytes],
) -> AsyncGenerator[bytes, None]:
    """Joins small pieces and splits large ones."""
    gathering: list[bytes] = []
    size = 0
    async for piece in pieces if isinstance(pieces, AsyncIterable) else _once(pieces):
        gathering.append(piece)
        size += len(piece)
        if size >= PIECE_BYTES:
            for part in sliced(b"".join(gathering)):
                yield part
            gathering, size = [], 0
    if gathering:
        yield b"".join(gathering)


async def _joined(items: list[bytes]) -> AsyncIterator[bytes]:
    separator = b"["
    for item in items:
        yield separator
        for part in sliced(item):
            yield part
        separator = b","
    yield b"[]" if separator == b"[" else b"]"


async def _once(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def _after(begun: list[bytes], pieces: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    while begun:
        yield begun.pop(0)
    async for piece in pieces:
        yield piece
