"""The database goes away under load, in two ways, and comes back."""

import asyncio
import time
from dataclasses import dataclass

import httpx
import pytest

from headrace.lifecycle import Tasks
from tests.db.conditions import kill_backends
from tests.support.live import live_server
from tests.support.processes import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

RUN = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "hi"}]}}


@dataclass
class Answer:
    started_at: float
    ok: bool
    what: str


async def load(url: str, answers: list[Answer], *, clients: int = 8) -> None:
    """Conversations without a pause, until cancelled."""

    async def talk(client: httpx.AsyncClient) -> None:
        while True:
            started_at = time.monotonic()
            try:
                response = await client.post("/runs/wait", json=RUN)
                ok = response.status_code == 200 and "__error__" not in response.json()
                answers.append(Answer(started_at, ok, response.text[:300]))
            except httpx.HTTPError as error:
                answers.append(Answer(started_at, False, repr(error)))

    async with httpx.AsyncClient(base_url=url, timeout=30) as client, asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(talk(client), name=f"client-{number}")


async def until_answers(answers: list[Answer], count: int, seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while len(answers) < count:
            await asyncio.sleep(0.02)


async def test_after_all_backends_are_killed_no_later_request_fails(tmp_path, database_url):
    with live_server(tmp_path, database_url) as server:
        answers: list[Answer] = []
        tasks = Tasks()
        tasks.start(load(server.url, answers), name="load")
        killed = 0
        killed_at = 0.0
        for _ in range(3):
            await until_answers(answers, len(answers) + 60)
            killed += kill_backends(database_url)
            killed_at = time.monotonic()
            before = len(answers)
            await until_answers(answers, before + 60)
            later = [one for one in answers[before:] if one.started_at > killed_at]
            assert later
            assert [one.what for one in later if not one.ok] == []
        await tasks.stop()
        in_flight = [one for one in answers if not one.ok]
        print(f"killed {killed} backends; {len(answers)} requests, {len(in_flight)} cut in flight")
        assert killed >= 6
        wait_until(lambda: all(one["leaked"] == 0 for one in server.pools()))
        wait_until(lambda: server.status("/readyz") == 200)


async def test_a_restart_of_postgres_is_seen_and_survived(tmp_path, private_postgres):
    postgres = private_postgres
    with live_server(tmp_path, postgres.url) as server:
        postgres.stop()
        alive: list[int] = []

        def unready() -> bool:
            alive.append(server.status("/livez"))
            return server.status("/readyz") == 503

        stopped_at = time.monotonic()
        wait_until(unready, seconds=10)
        noticed = time.monotonic() - stopped_at
        assert server.get("/readyz").json()["reasons"] == ["the database does not answer"]
        response = httpx.post(f"{server.url}/threads", json={}, timeout=20)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.json()["code"] in ("database_unavailable", "pool_exhausted")
        postgres.start()
        started_at = time.monotonic()
        wait_until(lambda: server.status("/readyz") == 200, seconds=20)
        back = time.monotonic() - started_at
        assert set(alive) == {200}
        assert httpx.post(f"{server.url}/runs/wait", json=RUN, timeout=20).status_code == 200
        print(f"unready after {noticed:.1f} s, ready {back:.1f} s after the start")
