"""Callers who go on whatever becomes of the servers, and the single requests of faults."""

import asyncio
import itertools
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from headrace.lifecycle import Tasks
from tests.support.sources import ROOT

_LOCUST = ROOT / ".tools" / "load" / "bin" / "locust"
#: From an answer to the next request.
_PAUSE_SECONDS = 0.15


def body(graph: str = "work", **does: Any) -> dict[str, Any]:
    return {"assistant_id": graph, "input": does, "if_not_exists": "create"}


class Callers:
    """A few that wait for runs, stream them, and read threads."""

    def __init__(self, urls: Sequence[str]) -> None:
        self._urls = list(urls)
        self._next = itertools.cycle(urls)
        self._tasks = Tasks()
        self._client = httpx.AsyncClient(timeout=30.0, limits=httpx.Limits(max_connections=500))
        self.answered = 0
        self.failed = 0

    def start(self, count: int) -> None:
        for number in range(count):
            self._tasks.start(self._go_on(number), name=f"caller-{number}")

    async def stop(self) -> None:
        await self._tasks.stop()
        await self._client.aclose()

    async def _go_on(self, number: int) -> None:
        ways = itertools.cycle([self.wait, self.stream, self.background, self.read])
        for _ in range(number % 4):
            next(ways)
        while True:
            ok = await next(ways)()
            self.answered += ok
            self.failed += not ok
            await asyncio.sleep(_PAUSE_SECONDS)

    async def wait(self, graph: str = "work", *, at: str = "", **does: Any) -> bool:
        return await self._post(at, f"/threads/{uuid4()}/runs/wait", body(graph, **does))

    async def stream(self, *, at: str = "", seconds: float = 0.02) -> bool:
        asked = body(seconds=seconds) | {"stream_mode": ["updates"]}
        return await self._post(at, f"/threads/{uuid4()}/runs/stream", asked)

    async def background(
        self, graph: str = "work", *, at: str = "", thread: str = "", **does: Any
    ) -> bool:
        return await self._post(at, f"/threads/{thread or uuid4()}/runs", body(graph, **does))

    async def read(self) -> bool:
        return await self.search(limit=1)

    async def search(self, *, limit: int, at: str = "") -> bool:
        return await self._post(at, "/threads/search", {"limit": limit})

    async def create(self, *, at: str = "", **fields: Any) -> bool:
        return await self._post(at, "/threads", fields)

    async def keyed(self, *, at: str) -> None:
        """A run that is asked for twice, with one key."""
        path, key = f"/threads/{uuid4()}/runs/wait", str(uuid4())
        for _ in range(2):
            await self._post(at, path, body(), key=key)

    async def hooked(self, url: str) -> bool:
        """A run whose end is told there."""
        return await self._post("", f"/threads/{uuid4()}/runs", body() | {"webhook": url})

    async def made(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """What a request has made."""
        answer = await self._client.post(f"{next(self._next)}{path}", json=content)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def delete(self, thread: str) -> bool:
        with suppress(httpx.HTTPError):
            return (await self._client.delete(f"{next(self._next)}/threads/{thread}")).is_success
        return False

    async def _post(self, at: str, path: str, content: dict[str, Any], *, key: str = "") -> bool:
        # On a new connection another process of the pod may answer.
        headers = {"connection": "close"} if at else {}
        if key:
            headers["idempotency-key"] = key
        address = (at or next(self._next)) + path
        try:
            answer = await self._client.post(address, json=content, headers=headers)
        except httpx.HTTPError:
            return False
        return answer.is_success


class Locust:
    """People who chat with one pod, if Locust is installed (``make load`` does that)."""

    def __init__(self, url: str, folder: Path, *, users: int) -> None:
        self._url = url
        self._folder = folder
        self._users = users
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def there() -> bool:
        return _LOCUST.exists()

    def start(self) -> None:
        own = {
            "LOAD_USERS": str(self._users),
            "LOAD_SECONDS": "3600",
            "LOAD_THINK_SECONDS": "0.5",
            "LOAD_RESULTS": str(self._folder),
        }
        with (self._folder / "locust.log").open("ab") as log:
            self._process = subprocess.Popen(
                [_LOCUST, "--config", "loadtests/locust.conf", "--host", self._url],
                env={**os.environ, **own},
                cwd=ROOT,
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
