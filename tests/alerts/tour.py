"""What callers do on every day beside runs, so that each panel of the dashboards has data."""

import asyncio
import json
from contextlib import suppress
from uuid import uuid4

from tests.alerts.load import Callers, body

#: Bytes of a body that are sent, of more that are promised.
_BEGUN = 70_000
#: What a process waits for before it refuses such a body, and a little more.
_STALL_SECONDS = 3.0


async def take(callers: Callers, url: str) -> None:
    """One round at one pod."""
    await callers.keyed(at=url)
    await callers.create(at=url, ttl={"strategy": "delete", "ttl": 0.01})
    await callers.search(limit=100, at=url)
    await callers.background(at=url, seconds=2.0)
    await callers.wait("talks", at=url)
    await asyncio.gather(*(_stalled_body(url) for _ in range(4)))


async def _stalled_body(url: str) -> None:
    """The beginning of a large body, and then nothing."""
    host, _, port = url.removeprefix("http://").partition(":")
    content = json.dumps(body(text="x" * 2 * _BEGUN)).encode()
    with suppress(OSError):
        _, writer = await asyncio.open_connection(host, int(port))
        head = (
            f"POST /threads/{uuid4()}/runs HTTP/1.1\r\nhost: {host}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        writer.write(head.encode() + content[:_BEGUN])
        await writer.drain()
        await asyncio.sleep(_STALL_SECONDS)
        writer.close()
