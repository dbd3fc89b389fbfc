"""Streamed responses: they send chunks as they come, until the client has left.

An endpoint may hand its stream over to headrace's middleware, if no middleware between the two
changes bodies. The middleware first frees the framework's objects, the request and its body, which
take more memory than the stream itself. Then it sends the stream.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from functools import partial
from typing import cast

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.edge.departures import Lost, lost_of, until_left
from headrace.edge.exchange import Exchange, exchange_of
from headrace.errors import RequestError
from headrace.events.reader import CutReason, Ending, FollowingStopped

#: The key in a request's state under which the middleware accepts bodies.
_HANDED = "headrace_handed"
#: Prefix of the keys that FastAPI leaves in a request's scope.
_FRAMEWORK_PREFIX = "fastapi"


class LastChunk(bytes):
    """The last chunk of a body: it and the end of the body go out in one write."""


class RefusalChunk(LastChunk):
    """A last chunk that tells a refusal, although the status 200 was sent before.

    :ivar code: of the refusal.
    """

    code: str

    @classmethod
    def of(cls, body: bytes, refusal: RequestError) -> "RefusalChunk":
        chunk = cls(body)
        chunk.code = refusal.code
        return chunk


class StreamResponse(Response):
    """Streams ``chunks``, and calls ``on_disconnect`` when the client leaves before the end.

    The headers are sent with the first chunk, or a tenth of a second later at most, so that a
    client has the run's id before the first event. The generator is closed in every case. If it
    raises :class:`FollowingStopped`, the body stays incomplete and the connection is closed:
    clients go on at the ``Location`` in the headers.

    :param ending: says why the chunks were cut, if they were.
    :param endless: the stream ends only when its client leaves, so that is no cut.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str],
        on_disconnect: Callable[[], None],
        ending: Ending | None = None,
        endless: bool = False,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        # Not Response's own way: it would set the length of an empty body.
        self.init_headers(headers)
        self._body = StreamBody(chunks, on_disconnect, ending, endless=endless)

    def hold(self, release: Callable[[], None]) -> None:
        """Call ``release`` when the body has ended: sent, broken off or dropped."""
        self._body.release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._body.exchange = exchange = exchange_of(scope)
        if exchange is not None:
            exchange.begin_stream()
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        except BaseException:
            self._body.drop()
            raise
        handed = scope.get("state", {}).get(_HANDED)
        if handed is None:
            await self._body.send(receive, send)
        else:
            handed.append(self._body)


class StreamBody:
    """The body of a response whose headers are sent."""

    __slots__ = (
        "_chunks",
        "_disconnected",
        "_ended",
        "_ending",
        "_endless",
        "_on_disconnect",
        "exchange",
        "release",
    )

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        on_disconnect: Callable[[], None],
        ending: Ending | None = None,
        *,
        endless: bool = False,
    ) -> None:
        self._chunks = chunks
        self._on_disconnect = on_disconnect
        self._disconnected = False
        self._ended = False
        self._ending = ending
        self._endless = endless
        #: The request that it answers; None where headrace's middleware is not around the app.
        self.exchange: Exchange | None = None
        self.release = _nothing

    def drop(self) -> None:
        """Do not send the body: the client has left before the first byte of it."""
        self._note_cut("client_left")
        self._end()
        self._on_disconnect()

    async def send(self, receive: Receive, send: Send, lost: Lost | None = None) -> None:
        """Send all of it, or until the client has left.

        :param lost: tells that the client has left; None: ``receive`` alone tells that.
        """
        sender = cast("asyncio.Task[None]", asyncio.current_task())
        leave = partial(self._leave, sender)
        watching = None
        if lost is not None:
            lost.add_done_callback(leave)
        else:
            watching = asyncio.create_task(until_left(receive))  # noqa: TID251 - ends here
            watching.add_done_callback(leave)
        try:
            await self._send(send)
        except asyncio.CancelledError:
            if not self._disconnected or sender.uncancel() > 0:
                raise
        finally:
            self._ended = True
            if lost is not None:
                lost.remove_done_callback(leave)
            if watching is not None:
                watching.cancel()
            self._note_end()
            self._end()

    def _leave(self, sender: asyncio.Task[None], told: asyncio.Future[None]) -> None:
        """The client has left."""
        if self._ended or told.cancelled() or told.exception() is not None:
            return
        self._disconnected = True
        self._on_disconnect()
        sender.cancel()

    def _end(self) -> None:
        release, self.release = self.release, _nothing
        release()

    async def _send(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                more = not isinstance(chunk, LastChunk)
                if isinstance(chunk, RefusalChunk) and self.exchange is not None:
                    self.exchange.note_code(chunk.code)
                await send({"type": "http.response.body", "body": chunk, "more_body": more})
                if not more:
                    return
        except FollowingStopped as stopped:
            self._note_cut(stopped.reason)
            return
        finally:
            await self._chunks.aclose()
        self._note_ending()
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    def _note_end(self) -> None:
        self._note_ending()
        if self._disconnected and self.exchange is not None:
            if self._endless:
                self.exchange.finish()
            else:
                self._note_cut("client_left")

    def _note_ending(self) -> None:
        if self._ending is not None and self._ending.cut:
            self._note_cut(self._ending.cut)

    def _note_cut(self, reason: CutReason) -> None:
        if self.exchange is not None:
            self.exchange.note_cut(reason)


def _nothing() -> None: ...


def accept_bodies(scope: Scope) -> list[StreamBody]:
    """Let the response of this request hand its body over; returns the list for it."""
    handed: list[StreamBody] = []
    scope["state"][_HANDED] = handed
    return handed


async def send_handed(handed: list[StreamBody], scope: Scope, receive: Receive, send: Send) -> None:
    """Send the body that was handed over, if there is one, and free the rest of the request."""
    if not handed:
        return
    for key in [key for key in scope if key.startswith(_FRAMEWORK_PREFIX)]:
        del scope[key]
    await handed.pop().send(receive, send, lost_of(scope))


def drop_handed(handed: list[StreamBody]) -> None:
    """End a body that was handed over but not sent, because something failed in between."""
    while handed:
        handed.pop().drop()
