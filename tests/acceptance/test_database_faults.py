"""The database goes away under load, in two ways, and comes back."""

import asyncio
import time
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import psycopg
import pytest

from headrace.lifecycle import Tasks
from tests.db.conditions import kill_backends
from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.paired]

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


async def conversation(url: str, answered: dict[str, int], thread_id: str) -> None:
    """Turn after turn on one thread, until cancelled; each answered one is counted."""
    turn = {**RUN, "if_not_exists": "create"}
    async with httpx.AsyncClient(base_url=url, timeout=30) as client:
        while True:
            try:
                response = await client.post(f"/threads/{thread_id}/runs/wait", json=turn)
            except httpx.HTTPError:
                continue
            if response.status_code == 200 and "__error__" not in response.json():
                answered[thread_id] = len(response.json()["messages"])


async def test_every_turn_that_was_answered_is_in_the_thread_after_backends_are_killed(
    tmp_path, database_url
):
    with live_server(tmp_path, database_url) as server:
        answered: dict[str, int] = {str(uuid4()): 0 for _ in range(8)}
        tasks = Tasks()
        for thread_id in answered:
            tasks.start(conversation(server.url, answered, thread_id), name="conversation")
        killed = 0
        for _ in range(3):
            wanted = sum(answered.values()) + 80
            async with asyncio.timeout(20):
                while sum(answered.values()) < wanted:
                    await asyncio.sleep(0.02)
            killed += kill_backends(database_url)
        await tasks.stop()
        async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
            for thread_id, messages in answered.items():
                state = (await client.get(f"/threads/{thread_id}/state")).json()
                kept = state["values"]["messages"]
                assert len(kept) >= messages > 0
                # Each reply says how many messages it has seen: a lost step would show.
                replies = [one["content"] for one in kept if one["type"] == "ai"]
                assert replies == [f"message {seen}" for seen in range(1, len(kept) + 1, 2)]
        print(f"killed {killed} backends; {sum(answered.values()) // 2} turns answered")
        assert killed >= 6
        wait_until(lambda: not busy(database_url))


def busy(url: str) -> list[str]:
    """Threads that are not free, and those with a run that has not ended."""
    with psycopg.connect(url, autocommit=True) as database:
        rows = database.execute(
            "SELECT thread_id FROM threads WHERE status = 'busy' OR running_run_id IS NOT NULL"
            " UNION SELECT thread_id FROM runs WHERE ended_at IS NULL"
        ).fetchall()
    return [row[0] for row in rows]


async def test_a_restart_of_postgres_is_seen_and_survived(tmp_path, private_postgres):
    postgres = private_postgres
    impatient: dict[str, Any] = {"HEADRACE_DATABASE__AWAY_TIMEOUT_SECONDS": "1"}
    with live_server(tmp_path, postgres.url, **impatient) as server:
        postgres.stop()
        alive: list[int] = []
        refusals: list[httpx.Response] = []

        def unready() -> bool:
            """Keep the refusal itself: the next call may meet the process that has not noticed."""
            alive.append(server.status("/livez"))
            answer = server.get("/readyz")
            if answer.status_code == 503:
                refusals.append(answer)
            return bool(refusals)

        stopped_at = time.monotonic()
        wait_until(unready, seconds=10)
        noticed = time.monotonic() - stopped_at
        (reason,) = refusals[0].json()["reasons"]
        assert reason == "the database does not answer: Connection refused"
        response = httpx.post(f"{server.url}/threads", json={}, timeout=20)
        assert response.status_code == 503
        assert response.headers["retry-after"]
        assert response.json()["code"] == "database_unavailable"
        postgres.start()
        started_at = time.monotonic()
        wait_until(lambda: server.status("/readyz") == 200, seconds=20)
        back = time.monotonic() - started_at
        assert set(alive) == {200}
        assert httpx.post(f"{server.url}/runs/wait", json=RUN, timeout=20).status_code == 200
        lines = server.log().splitlines()
        lost = [line for line in lines if '"database_lost"' in line]
        assert 1 <= len([line for line in lost if "Connection refused" in line]) <= len(lost) <= 4
        assert [line for line in lines if '"psycopg.pool"' in line] == []
        print(f"unready after {noticed:.1f} s, ready {back:.1f} s after the start")
