"""Postgres restarts, or stands still, under load: requests take longer, and none fails.

``TEST_PAUSE_SECONDS=20`` makes the pauses as long as docs/failover.md says.
"""

import asyncio
import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from headrace.lifecycle import Tasks
from tests.support.database import PrivatePostgres
from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

PAUSE_SECONDS = float(os.environ.get("TEST_PAUSE_SECONDS", "4"))
SAY: dict[str, Any] = {
    "assistant_id": "agent",
    "input": {"messages": [{"role": "user", "content": "hi"}]},
}
#: A client of the SDK waits longer for an answer.
CLIENT_SECONDS = 90.0


class Load:
    """Clients that make threads, run on them and read them, and note each failed request."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.requests = 0
        self.failures: list[str] = []
        self.longest = 0.0

    async def go_on(self, *, clients: int = 6) -> None:
        async with (
            httpx.AsyncClient(base_url=self._url, timeout=CLIENT_SECONDS) as client,
            asyncio.TaskGroup() as group,
        ):
            for number in range(clients):
                group.create_task(self._converse(client), name=f"client-{number}")
            group.create_task(self._run_slowly(client), name="slow")

    async def until(self, requests: int, *, seconds: float = 60) -> None:
        """Wait until so many more requests have been answered."""
        wanted = self.requests + requests
        async with asyncio.timeout(seconds):
            while self.requests < wanted:
                await asyncio.sleep(0.02)

    async def _converse(self, client: httpx.AsyncClient) -> None:
        while True:
            made = await self._ask(client, "POST", "/threads", {})
            thread = f"/threads/{made.get('thread_id', '')}"
            turn = await self._ask(client, "POST", f"{thread}/runs/wait", SAY)
            self._judge("runs/wait", len(turn.get("messages", [])) == 2, turn)
            await self._ask(client, "GET", thread, None)
            state = await self._ask(client, "GET", f"{thread}/state", None)
            self._judge("state", len(state.get("values", {}).get("messages", [])) == 2, state)
            await self._ask(client, "POST", f"{thread}/history", {})
            await self._ask(client, "PATCH", thread, {"metadata": {"seen": True}})
            run = await self._ask(client, "POST", f"{thread}/runs", SAY)
            joined = await self._ask(client, "GET", f"{thread}/runs/{run.get('run_id')}/join", None)
            self._judge("join", len(joined.get("messages", [])) == 4, joined)
            await self._ask(client, "POST", "/threads/search", {"limit": 2})
            await self._stream(client, f"{thread}/runs/stream")
            await self._ask(client, "POST", "/runs/wait", SAY)
            await self._change(client, thread)
            await self._ask(client, "DELETE", thread, None)

    async def _change(self, client: httpx.AsyncClient, thread: str) -> None:
        """Changes that must not be made twice."""
        said = {"values": {"messages": [{"role": "user", "content": "changed"}]}}
        await self._ask(client, "POST", f"{thread}/state", said)
        state = await self._ask(client, "GET", f"{thread}/state", None)
        said_once = [one["content"] for one in state.get("values", {}).get("messages", [])]
        self._judge("change", said_once.count("changed") == 1, said_once)
        copy = await self._ask(client, "POST", f"{thread}/copy", None)
        await self._ask(client, "DELETE", f"/threads/{copy.get('thread_id')}", None)
        await self._ask(client, "POST", "/threads", {"thread_id": str(uuid4())})
        made = await self._ask(client, "POST", "/assistants", {"graph_id": "agent"})
        assistant = f"/assistants/{made.get('assistant_id')}"
        changed = await self._ask(client, "PATCH", assistant, {"name": "changed"})
        self._judge("assistant", changed.get("version") == 2, changed)
        later = await self._ask(client, "POST", f"{thread}/runs", {**SAY, "after_seconds": 600})
        run = f"{thread}/runs/{later.get('run_id')}"
        await self._ask(client, "POST", f"{run}/cancel", None)
        keyed = {"Idempotency-Key": str(uuid4())}
        await self._ask(client, "POST", f"{thread}/runs/wait", SAY, keyed)

    async def _run_slowly(self, client: httpx.AsyncClient) -> None:
        """Runs that outlive the pause."""
        slow = {"assistant_id": "slow", "input": {"seconds": PAUSE_SECONDS / 2}}
        while True:
            ended = await self._ask(client, "POST", "/runs/wait", slow)
            self._judge("slow", ended.get("done") == [0, 1, 2], ended)

    async def _ask(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str] | None = None,
    ) -> dict[str, Any]:
        began = time.monotonic()
        try:
            answer = await client.request(method, path, json=body, headers=headers)
        except httpx.HTTPError as error:
            self._judge(f"{method} {path}", False, repr(error))
            return {}
        finally:
            self.requests += 1
            self.longest = max(self.longest, time.monotonic() - began)
        self._judge(f"{method} {path}", answer.is_success, answer.text)
        found = answer.json() if answer.is_success and answer.content else {}
        return found if isinstance(found, dict) else {"list": found}

    async def _stream(self, client: httpx.AsyncClient, path: str) -> None:
        try:
            async with client.stream("POST", path, json=SAY) as answer:
                text = (await answer.aread()).decode()
            whole = answer.is_success and "event: end" in text and "event: error" not in text
            self._judge(path, whole, text)
        except httpx.HTTPError as error:
            self._judge(path, False, repr(error))
        finally:
            self.requests += 1

    def _judge(self, what: str, fine: bool, said: object) -> None:
        if not fine:
            self.failures.append(f"{what}: {str(said)[:300]}")


async def restart(postgres: PrivatePostgres) -> None:
    await asyncio.to_thread(postgres.stop)
    await asyncio.sleep(PAUSE_SECONDS)
    await asyncio.to_thread(postgres.start)


async def crash(postgres: PrivatePostgres) -> None:
    await asyncio.to_thread(postgres.crash)
    await asyncio.sleep(PAUSE_SECONDS)
    await asyncio.to_thread(postgres.start)


def children(postmaster: int) -> list[int]:
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == postmaster:
                found.append(int(status.parent.name))
    return found


async def freeze(postgres: PrivatePostgres) -> None:
    """Every process of the server stands still, as on a machine that swaps or is moved."""
    with psycopg.connect(postgres.url) as connection:
        row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
    assert row is not None
    family = [postmaster := int(row[0].split()[0])]
    os.kill(postmaster, signal.SIGSTOP)
    family += children(postmaster)
    try:
        for pid in family[1:]:
            os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(PAUSE_SECONDS)
    finally:
        for pid in reversed(family):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("pause", [restart, crash, freeze], ids=lambda pause: pause.__name__)
async def test_no_request_fails_while_the_database_pauses(
    tmp_path: Path, private_postgres: PrivatePostgres, pause: Callable[[PrivatePostgres], Any]
) -> None:
    with live_server(tmp_path, private_postgres.url) as server:
        load = Load(server.url)
        tasks = Tasks()
        tasks.start(load.go_on(), name="load")
        await load.until(60)
        await pause(private_postgres)
        await load.until(100, seconds=90)
        await tasks.stop()
        print(f"{load.requests} requests, the longest took {load.longest:.1f} s")
        assert load.failures == []
        wait_until(lambda: server.status("/readyz") == 200, seconds=30)
        wait_until(lambda: all(one["leaked"] == 0 for one in server.pools()))
