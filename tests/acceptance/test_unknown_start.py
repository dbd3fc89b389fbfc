"""A start whose outcome stays unknown: its run must not stay running where nobody executes it."""

import asyncio
from typing import Any

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.proxy import proxied
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

SETTINGS: dict[str, Any] = {
    # The first answer that is lost leaves the start unknown; by default it takes 30 s of them.
    "HEADRACE_CHECKPOINTER__RETRY_SECONDS": "0",
    "HEADRACE_WORKER__LEASE_SECONDS": "2",
    "HEADRACE_WORKER__HEARTBEAT_SECONDS": "0.5",
    "HEADRACE_WORKER__SWEEP_SECONDS": "0.5",
    # Measuring the tables commits too, and the commits are counted here.
    "HEADRACE_METRICS__TABLE_SECONDS": "0",
    # So does each look for crons and webhooks that are due.
    "HEADRACE_CRONS__POLL_SECONDS": "3600",
    "HEADRACE_WEBHOOKS__POLL_SECONDS": "3600",
}
RUN = {"assistant_id": "agent", "input": {"messages": [["user", "hi"]]}}
TERMINAL = {"success", "error", "timeout", "interrupted"}


async def test_a_start_whose_answer_was_lost_does_not_keep_its_thread_busy(tmp_path, database_url):
    async with proxied(database_url) as proxy:
        loop = asyncio.get_running_loop()
        entered = live_server(tmp_path, proxy.url, **SETTINGS)
        server = await loop.run_in_executor(None, entered.__enter__)
        try:
            async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
                thread_id = (await client.post("/threads", json={})).json()["thread_id"]
                # From now on the assistant is cached, and the thread's next commit is a start.
                assert (await client.post("/runs/wait", json=RUN)).status_code == 200
                lost = proxy.next_commit("drop_answer", about=thread_id)
                answer = await client.post(f"/threads/{thread_id}/runs/wait", json=RUN)
                assert answer.status_code == 503
                assert lost.reached.is_set()
                with psycopg.connect(database_url, autocommit=True) as database:
                    print(f"refused with 503, and the rows say: {statuses(database)}")
                    await eventually(lambda: statuses(database) <= TERMINAL)
        finally:
            await loop.run_in_executor(None, entered.__exit__, None, None, None)


def statuses(database: psycopg.Connection[Any]) -> set[str]:
    return {row[0] for row in database.execute("SELECT status FROM runs").fetchall()}
