"""Responses that last: they send what comes, keep quiet connections alive, notice who hung up.

Where headrace's own middleware is told that nothing between it and the endpoints changes bodies,
such a response goes on there, once everything that made it is gone: framework, request and body
weigh more than the stream itself.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from typing import Any, TypeVar, cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.events.reader import Released

#: Where a request's state holds the place for a response that goes on in the middleware.
_PLACE = "headrace_live"
#: What FastAPI leaves in a request's scope.
_MADE_BY_FRAMEWORK = "fastapi"


T = TypeVar("T")


class ClientLeft(Exception):
    """Nobody is there any more to be answered."""


async def unless_left(work: Coroutine[Any, Any, T], receive: Receive) -> T:
    """What ``work`` returns, of a request whose body is read and whose answer has not begun.

    :raises ClientLeft: its client has left; ``work`` was cancelled.
    """
    working = asyncio.create_task(work)  # noqa: TID251 - ends in this function
    watching = asyncio.create_task(_left(receive))  # noqa: TID251 - ends in this function
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientLeft
        return working.result()
    finally:
        working.cancel()
        watching.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class LastChunk(bytes):
    """A chunk that its generator knows to be the last: the body ends with it, in one write."""


class LiveResponse(Response):
    """Streams ``chunks``; calls ``on_disconnect`` when the client leaves before their end.

    The headers go out at once, so that a client learns its run's id before the first event. The
    generator is closed in every case. Where it raises :class:`Released` the body is not completed:
    the connection breaks off, and clients go on from the ``Location`` they were given.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        on_disconnect: Callable[[], None],
    ) -> None:
        super().__init__(headers=dict(headers), media_type=media_type)
        # Response set the length of an empty body.
        del self.headers["content-length"]
        self._body = LiveBody(chunks, on_disconnect)

    def hold(self, release: Callable[[], None]) -> None:
        """Call ``release`` once its body has ended, however it does: sent, broken off, dropped."""
        self._body.release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            self._body.drop()
            raise
        place = scope.get("state", {}).get(_PLACE)
        if place is None:
            await self._body.send(receive, send)
        else:
            place.append(self._body)


class LiveBody:
    """What is left of a response once its headers are sent."""

    __slots__ = ("_chunks", "_disconnected", "_on_disconnect", "release")

    def __init__(
        self, chunks: AsyncGenerator[bytes, None], on_disconnect: Callable[[], None]
    ) -> None:
        self._chunks = chunks
        self._on_disconnect = on_disconnect
        self._disconnected = False
        self.release = _nothing

    def drop(self) -> None:
        """It will not be sent: its client has gone before the first byte."""
        self._end()
        self._on_disconnect()

    async def send(self, receive: Receive, send: Send) -> None:
        """All of it, or until the client has left."""
        sender = cast("asyncio.Task[None]", asyncio.current_task())
        watching = asyncio.create_task(  # noqa: TID251 - ends in this function
            self._watch(receive, sender), name="live-watch"
        )
        try:
            await self._send(send)
        except asyncio.CancelledError:
            if not self._disconnected or sender.uncancel() > 0:
                raise
        finally:
            watching.cancel()
            self._end()

    def _end(self) -> None:
        release, self.release = self.release, _nothing
        release()

    async def _send(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                more = not isinstance(chunk, LastChunk)
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
                if not more:
                    return
        except Released:
            return
        finally:
            await self._chunks.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _watch(self, receive: Receive, sender: asyncio.Task[None]) -> None:
        await _left(receive)
        self._disconnected = True
        self._on_disconnect()
        sender.cancel()


def _nothing() -> None: ...


def make_place(scope: Scope) -> list[LiveBody]:
    """Let the response of this request, if it lasts, go on in the caller's hands."""
    place: list[LiveBody] = []
    scope["state"][_PLACE] = place
    return place


async def finish(place: list[LiveBody], scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body that was put there, if one was, and keep nothing else of the request."""
    if not place:
        return
    for key in [key for key in scope if key.startswith(_MADE_BY_FRAMEWORK)]:
        del scope[key]
    await place.pop().send(receive, send)


def drop_unsent(place: list[LiveBody]) -> None:
    """What was put there and not sent, because something failed in between, ends as well."""
    while place:
        place.pop().drop()
