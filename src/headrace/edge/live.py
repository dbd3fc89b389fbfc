"""Responses that last: they send what comes, keep quiet connections alive, notice who hung up."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headrace.events.reader import Released


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
        self._chunks = chunks
        self._on_disconnect = on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(send), name="live-send")
            watching = group.create_task(_until_disconnect(receive), name="live-watch")
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            if not sending.done():
                sending.cancel()
                self._on_disconnect()
            watching.cancel()

    async def _send(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except Released:
            return
        finally:
            await self._chunks.aclose()
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
