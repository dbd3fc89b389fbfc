"""Request bodies: bounded, strict JSON, without values that Postgres cannot store."""

import asyncio
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import orjson
from fastapi import Request
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Scope

from headrace.edge.body_memory import PIECE_BYTES, Body, BodyMemory, parsed_at_most
from headrace.edge.departures import lost_of, unless_lost
from headrace.edge.turns import Turn, Turns
from headrace.errors import InvalidRequest, MalformedJSON, PayloadTooLarge
from headrace.request_settings import RequestSettings

#: The default. Checkpoints hold at most 255 levels, and graphs put some levels of their own around
#: a value.
MAX_DEPTH = 128

#: orjson rounds integers beyond 64 bits to floats. A float this large may be such an integer.
_MAY_BE_ROUNDED = 2.0**63

_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


#: Larger bodies are parsed in a thread, one at a time: the values of a body may take thirty times
#: the memory of its text.
_READ_APART_BYTES = 128 * 1024
_APART = ThreadPoolExecutor(max_workers=1, thread_name_prefix="large-body")


class _FoundHeaders(Headers):
    """Headers that are found by hash. Most requests lack most headers that headrace looks for."""

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope=scope)
        #: The first of each name.
        self._first = {name.decode("latin-1"): value for name, value in reversed(self.raw)}

    def get(self, key: str, default: Any = None) -> Any:
        found = self._first.get(key.lower())
        return default if found is None else found.decode("latin-1")


class BodyBounds(NamedTuple):
    """How much the value of one body may hold.

    :ivar values: numbers, texts, lists and objects.
    :ivar depth: levels of lists and objects.
    :ivar items: texts, lists and objects of one list. Each may become a message, which LangGraph
        makes on the event loop.
    """

    values: int = 500_000
    depth: int = MAX_DEPTH
    items: int = 50_000

    @classmethod
    def of(cls, settings: RequestSettings) -> "BodyBounds":
        return cls(settings.max_body_values, settings.max_body_depth, settings.max_list_items)


class JSONRequest(Request):
    """A request whose ``json()`` refuses values that headrace cannot store or send back."""

    max_body_bytes: int = 8 * 1024 * 1024
    bounds: BodyBounds = BodyBounds()
    #: The process's memory for large bodies. None: large bodies are not counted.
    body_memory: BodyMemory | None = None
    #: The caller whose share the body uses.
    caller: str = ""
    #: None if there is only one caller.
    turns: Turns | None = None
    _large: Body | None = None
    _turn: Turn | None = None
    _found_headers: _FoundHeaders | None = None

    @property
    def headers(self) -> Headers:
        if self._found_headers is None:
            self._found_headers = _FoundHeaders(self.scope)
        return self._found_headers

    @property
    def is_read(self) -> bool:
        """Whether the whole body is read: a handler that tells who calls may have done that."""
        return hasattr(self, "_body")

    async def body(self) -> bytes:
        """The whole body.

        :raises PayloadTooLarge: as soon as more than ``max_body_bytes`` are announced or arrive.
        :raises BodiesFull: the process has no memory for it.
        :raises CallerShareUsed, Overloaded, ClientLeft: as :meth:`take_turn`.
        """
        if hasattr(self, "_body"):
            return self._body
        announced = self.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > self.max_body_bytes:
            raise self._too_large()
        chunks: list[bytes] = []
        received, more = 0, True
        while more:
            chunk, more = await self._next_piece()
            received += len(chunk)
            if received > self.max_body_bytes:
                raise self._too_large()
            chunks.append(chunk)
            if received > PIECE_BYTES and self.body_memory is not None:
                self._large = self.body_memory.body(self.caller)
                await self._receive_rest(self._large, chunks, received, more)
                break
        self._body = b"".join(chunks)
        await self.take_turn()
        return self._body

    async def _receive_rest(
        self, large: Body, chunks: list[bytes], received: int, more: bool
    ) -> None:
        async with large.coming():
            await large.grow(received)
            while more:
                chunk, more = await self._next_piece()
                received += len(chunk)
                if received > self.max_body_bytes:
                    raise self._too_large()
                chunks.append(chunk)
                await large.grow(received)

    async def _next_piece(self) -> tuple[bytes, bool]:
        """The next piece of the body, and whether more of it comes.

        :raises ClientDisconnect: the client has left.
        """
        message = await self.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        return message.get("body", b""), message.get("more_body", False)

    async def take_turn(self) -> None:
        """Wait for a turn of this caller; does nothing if the request has one already.

        :meth:`body` calls this after the last byte. For an endpoint without a body, the route calls
        it.

        :raises CallerShareUsed, Overloaded: the turn did not come in time.
        :raises ClientLeft: the client has left meanwhile, and the server tells that.
        """
        if self.turns is None or self._turn is not None:
            return
        self._turn = await unless_lost(self.turns.take(self.caller), lost_of(self.scope))

    @property
    def turn(self) -> Turn | None:
        """The turn that the request has or had."""
        return self._turn

    def end_turn(self) -> None:
        """See :meth:`Turn.end`."""
        if self._turn is not None:
            self._turn.end()

    def release(self) -> None:
        """Give back the turn, and the memory of the body. Call this when the request is handled."""
        self.end_turn()
        if self._large is not None:
            self._large.release()

    async def json(self) -> Any:
        """The value of the body.

        :raises MalformedJSON: the body is not JSON.
        :raises InvalidRequest: the body is beyond a limit, or holds a value that cannot be stored.
        :raises BodiesFull: the process has no memory for it.
        :raises PayloadTooLarge, CallerShareUsed, Overloaded, ClientLeft: as :meth:`body`.
        """
        return await json_value(
            await self.body(),
            self.bounds,
            self._large,
            begin_values=self.end_turn,
        )

    def _too_large(self) -> PayloadTooLarge:
        return PayloadTooLarge(
            f"The request body is larger than {self.max_body_bytes} bytes"
            " (setting server.max_body_bytes)."
        )


async def json_value(
    text: bytes,
    bounds: BodyBounds,
    large: Body | None,
    *,
    begin_values: Callable[[], None] = lambda: None,
) -> Any:
    """The value of a body, or of a message of a WebSocket.

    :param large: takes memory for the values; None: it is small, or nothing counts it.
    :param begin_values: called before a large value waits for that memory, which then bounds the
        rest of the work.
    :raises MalformedJSON: it is not JSON.
    :raises InvalidRequest: it is beyond a limit, or holds a value that cannot be stored.
    :raises BodiesFull: the process has no memory for it.
    """
    if len(text) <= _READ_APART_BYTES:
        return _read(text, bounds)
    loop = asyncio.get_running_loop()
    if large is not None:
        size_bytes = await loop.run_in_executor(_APART, parsed_at_most, text, bounds.values)
        begin_values()
        await large.admit_values(size_bytes)
    return await loop.run_in_executor(_APART, _read, text, bounds)


def end_turn(request: Request) -> None:
    """Give back the turn of a request that now waits at another gate."""
    if isinstance(request, JSONRequest):
        request.end_turn()


def release_body(request: Request) -> None:
    """Give back the turn and the memory of the body before a long answer."""
    if isinstance(request, JSONRequest):
        request.release()


def _read(body: bytes, bounds: BodyBounds) -> Any:
    # Parsing millions of values takes a second and blocks all threads. Refuse such a body first.
    most = bounds.values
    if _least_values(body) > most and _least_values(_TEXT.sub(b"", body)) > most:
        raise InvalidRequest(_too_many(most))
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedJSON(f"Invalid JSON in request body: {error}") from None
    problem, is_rounded = _examined(value, bounds, has_nul=b"\\u0000" in body)
    if problem is not None:
        raise InvalidRequest(problem)
    # json alone would accept more than JSON, but here orjson has accepted the body already.
    return json.loads(body) if is_rounded else value


def _least_values(structure: bytes) -> int:
    """A lower bound on the number of values in JSON whose texts were removed.

    Each list and each object is a value. Each comma separates two values.
    """
    return max(structure.count(b"[") + structure.count(b"{"), structure.count(b",") + 1)


def _too_many(max_values: int) -> str:
    return (
        f"The request body holds more than {max_values} values (setting requests.max_body_values);"
        " send it in parts."
    )


def _items(values: list[Any]) -> int:
    return sum(isinstance(one, str | list | dict) for one in values)


def _too_many_items(max_items: int) -> str:
    return (
        f"A list of the request body holds more than {max_items} texts, lists and objects (setting"
        " requests.max_list_items); send them in parts."
    )


def _examined(value: Any, bounds: BodyBounds, *, has_nul: bool) -> tuple[str | None, bool]:
    """What is wrong with the value, or None; and whether orjson may have rounded an integer."""
    level, depth, seen, is_rounded = [value], 0, 0, False
    while level:
        depth += 1
        if depth > bounds.depth:
            return (
                f"The request body is nested more than {bounds.depth} levels deep (setting"
                " requests.max_body_depth).",
                False,
            )
        seen += len(level)
        if seen > bounds.values:
            return _too_many(bounds.values), False
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
                if has_nul and any("\0" in key for key in item):
                    return _NUL, False
            elif isinstance(item, list):
                below.extend(item)
                if len(item) > bounds.items and _items(item) > bounds.items:
                    return _too_many_items(bounds.items), False
            elif isinstance(item, float):
                is_rounded |= abs(item) >= _MAY_BE_ROUNDED
            elif has_nul and isinstance(item, str) and "\0" in item:
                return _NUL, False
        level = below
    return None, is_rounded


_NUL = "The request body holds a NUL character (\\u0000), which Postgres cannot store; remove it."
