"""Two hundred clients hang up in mid-run; no connection is lost."""

import asyncio
import random

import httpx
import psycopg
import pytest

from tests.support.live import live_server
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.acceptance, pytest.mark.alone]

CLIENTS = 200


@pytest.mark.parametrize("on_disconnect", ["cancel", "continue"])
async def test_a_storm_of_clients_that_hang_up_leaves_the_pool_whole(
    tmp_path, database_url, on_disconnect
):
    with live_server(tmp_path, database_url, HEADRACE_DATABASE__POOL_MAX="4") as server:
        body = {
            "assistant_id": "slow",
            "input": {"seconds": 0.4},
            "stream_mode": ["values", "custom"],
            "on_disconnect": on_disconnect,
            "on_completion": "keep",
        }
        chance = random.Random(7)
        limits = httpx.Limits(max_connections=None)
        started = 0

        async def hang_up(client: httpx.AsyncClient, *, early: bool) -> None:
            """In the middle of the run; early ones while it is being started, or before."""
            nonlocal started
            seconds = chance.random()
            try:
                async with (
                    asyncio.timeout(seconds if early else 60) as patience,
                    client.stream("POST", "/runs/stream", json=body) as response,
                ):
                    started += response.status_code == 200
                    patience.reschedule(asyncio.get_running_loop().time() + seconds)
                    async for _ in response.aiter_raw():
                        pass
            except (TimeoutError, httpx.HTTPError):
                pass

        async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
            await asyncio.gather(
                *[hang_up(client, early=number % 4 == 0) for number in range(CLIENTS)]
            )

        def over() -> bool:
            with psycopg.connect(database_url) as connection:
                row = connection.execute(
                    "SELECT count(*) FROM runs WHERE status IN ('pending', 'running')"
                ).fetchone()
            return row == (0,)

        wait_until(over, seconds=30)
        with psycopg.connect(database_url) as connection:
            counts = connection.execute("SELECT status, count(*) FROM runs GROUP BY 1").fetchall()
            statuses: dict[str, int] = dict(counts)
            busy = connection.execute("SELECT count(*) FROM threads WHERE status = 'busy'")
            assert busy.fetchone() == (0,)
        print(f"{CLIENTS} clients, {started} streams begun, runs: {statuses}")
        assert sum(statuses.values()) >= CLIENTS / 2
        if on_disconnect == "continue":
            assert set(statuses) == {"success"}
        else:
            assert statuses.get("interrupted", 0) > 0

        def whole() -> bool:
            return all(
                pool["available"] == pool["size"] and pool["leaked"] == 0 and pool["in_use"] == 0
                for pool in server.pools()
            )

        wait_until(whole, seconds=10)
