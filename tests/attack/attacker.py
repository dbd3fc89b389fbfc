"""What all drives have: clients with and without a key, the database, a clock, and the tally."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Any

import httpx
import psycopg

from tests.attack.address import Address
from tests.attack.tally import Tally

#: An attacker gives up on an answer after this.
_PATIENCE_SECONDS = 60.0
_UNBOUNDED = httpx.Limits(max_connections=None, max_keepalive_connections=20)
_JSON = {"content-type": "application/json"}


class Attacker:
    """One attacker with a key, and strangers without one.

    :param seconds: how long the drive may take; a drive looks at :attr:`over` between its steps.
    :param scale: of the counts and sizes: 1 is the larger form.
    """

    def __init__(self, address: Address, *, seconds: float, scale: float) -> None:
        self.address = address
        self.tally = Tally()
        self.scale = scale
        self._ends_at = time.monotonic() + seconds
        url = f"http://127.0.0.1:{address.port}"
        self.http = httpx.AsyncClient(
            base_url=url,
            headers={"x-api-key": address.attacker_key},
            timeout=_PATIENCE_SECONDS,
            limits=_UNBOUNDED,
        )
        self.stranger = httpx.AsyncClient(
            base_url=url, timeout=_PATIENCE_SECONDS, limits=_UNBOUNDED
        )

    async def close(self) -> None:
        await self.http.aclose()
        await self.stranger.aclose()

    @property
    def left(self) -> float:
        return max(0.0, self._ends_at - time.monotonic())

    @property
    def over(self) -> bool:
        return not self.left

    def count(self, whole: int, least: int = 1) -> int:
        return max(least, round(whole * self.scale))

    def sql(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        """On a connection of its own."""
        with psycopg.connect(self.address.database_url, autocommit=True) as connection:
            cursor = connection.execute(query, values)
            return cursor.fetchall() if cursor.description else []

    async def thread(self, **body: Any) -> str:
        """A new thread. This is preparation and is not counted."""
        answer = await self.http.post("/threads", json=body)
        answer.raise_for_status()
        return str(answer.json()["thread_id"])

    async def run(self, assistant: str, thread: str | None = None, **body: Any) -> Any:
        """Wait for a run. This is preparation and is not counted."""
        path = "/runs/wait" if thread is None else f"/threads/{thread}/runs/wait"
        answer = await self.http.post(path, json={"assistant_id": assistant, **body})
        answer.raise_for_status()
        return answer.json()

    async def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        allowed: Collection[int] = (),
        what: str = "",
        client: httpx.AsyncClient | None = None,
        **how: Any,
    ) -> httpx.Response | None:
        """Try something, and count how it ended: a 500, or what is not allowed, is let through.

        :param body: bytes go as they are.
        :param allowed: statuses; empty: all below 500, and 503.
        :param what: the name of it in the report.
        :return: None where there was no answer: the connection was closed, or it took too long.
        """
        self.tally.tried += 1
        if body is not None:
            how["content"] = body if isinstance(body, bytes) else json.dumps(body).encode()
            how["headers"] = {**_JSON, **how.get("headers", {})}
        try:
            answer = await (client or self.http).request(method, path, **how)
        except httpx.TimeoutException:
            self.tally.judge(False, f"{what or path}: no answer in {_PATIENCE_SECONDS:g} s")
            return None
        except httpx.HTTPError:
            self.tally.refused += 1
            return None
        status = answer.status_code
        if status not in allowed if allowed else status >= 500 and status != 503:
            self.tally.judge(False, f"{what or path}: {status} {answer.text[:160]}")
        elif status >= 400:
            self.tally.refused += 1
        return answer

    async def together(
        self, calls: Iterable[Callable[[], Awaitable[Any]]], *, parallel: int
    ) -> None:
        """So many at a time, until all are done or the time is over."""
        queue = iter(calls)

        async def work() -> None:
            for call in queue:
                if self.over:
                    return
                await call()

        async with asyncio.TaskGroup() as workers:
            for _ in range(parallel):
                workers.create_task(work())

    async def hold(self, method: str, path: str, body: Any = None, **how: Any) -> None:
        """Try a stream or a wait that lasts: read it until it ends or this is cancelled."""
        self.tally.tried += 1
        with suppress(httpx.HTTPError):
            async with self.http.stream(method, path, json=body, timeout=None, **how) as answer:
                if answer.status_code >= 400:
                    self.tally.refused += 1
                    self.tally.judge(
                        answer.status_code < 500 or answer.status_code == 503,
                        f"{path}: {answer.status_code}",
                    )
                async for _ in answer.aiter_raw():
                    pass
