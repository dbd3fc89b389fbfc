"""What a process sends over its pool is counted, in each form of sending it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from fastapi import FastAPI
from httpx import ASGITransport, AsyncClient
from sqlalchemy import text

from headrace.db.engine import Sessions, build_engine
from headrace.db.planner import langgraph_cursor
from headrace.db.pool import SharedPool
from headrace.graphs.sources import sources_from_objects
from headrace.server.app import build_router
from headrace.server.lifespan import serving
from headrace.settings import Settings
from tests.support.apps import started
from tests.support.database import open_pool
from tests.support.graphs.graphs import agent


def sent(pool: SharedPool) -> tuple[int, int]:
    return pool.traffic.statements, pool.traffic.transactions


async def cost(pool: SharedPool, work) -> tuple[int, int]:
    before = sent(pool)
    await work
    after = sent(pool)
    return after[0] - before[0], after[1] - before[1]


async def alone(pool: SharedPool) -> None:
    connection = await pool.getconn(checked=False)
    await connection.execute("SELECT 1")
    await pool.putconn(connection)


async def in_a_transaction(pool: SharedPool) -> None:
    async with pool.connection() as connection, connection.transaction():
        await connection.execute("SELECT 1")
        await connection.execute("SELECT %s::int", (2,))


async def in_a_pipeline(pool: SharedPool) -> None:
    connection = await pool.getconn(checked=False)
    async with connection.pipeline():
        await connection.execute("BEGIN", prepare=False)
        cursor = await connection.execute("SELECT %s::int", (1,), prepare=True)
        await cursor.fetchone()
        await connection.execute("SELECT %s::int", (2,), prepare=True)
        await connection.execute("COMMIT", prepare=False)
    await pool.putconn(connection)


async def in_a_pipelined_transaction(pool: SharedPool) -> None:
    connection = await pool.getconn(checked=False)
    async with connection.pipeline(), connection.transaction():
        cursor = await connection.execute("SELECT 1")
        await cursor.fetchone()
        await connection.execute("SELECT 1")
    await pool.putconn(connection)


async def prepared_in_a_pipeline(pool: SharedPool) -> None:
    connection = await pool.getconn(checked=False)
    async with connection.pipeline():
        await connection.execute("SELECT %s::int", (1,), prepare=True)
    await pool.putconn(connection)


async def as_langgraph_does(pool: SharedPool) -> None:
    connection = await pool.getconn(checked=False)
    async with connection.pipeline(), langgraph_cursor(connection) as cursor:
        await cursor.executemany("SELECT %s::int", [(1,), (2,), (3,)])
    await pool.putconn(connection)


async def through_sqlalchemy(sessions: Sessions) -> None:
    async with sessions.begin() as session:
        await session.execute(text("SELECT 1"))


@pytest.mark.parametrize(
    ("work", "statements", "transactions"),
    [
        (alone, 1, 1),
        # The check; BEGIN, two statements, COMMIT.
        (in_a_transaction, 5, 2),
        (in_a_pipeline, 4, 1),
        (in_a_pipelined_transaction, 4, 1),
        (prepared_in_a_pipeline, 1, 1),
        (as_langgraph_does, 3, 1),
    ],
)
async def test_each_form_is_counted_once(work, statements, transactions, database_url):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        assert await cost(pool, work(pool)) == (statements, transactions)


async def test_statements_of_sqlalchemy_are_counted(database_url):
    async with open_pool(database_url, pool_min=1, pool_max=1) as pool:
        engine = build_engine(pool)
        sessions = Sessions(engine, timeout_seconds=5)
        await through_sqlalchemy(sessions)  # the first session asks for more
        # The check; BEGIN, the planner's settings, the statement, COMMIT.
        assert await cost(pool, through_sqlalchemy(sessions)) == (5, 2)
        await engine.dispose()


async def test_statements_in_an_own_schema_are_counted(database_url):
    async with open_pool(database_url, pool_min=1, pool_max=1, schema="other") as pool:
        assert await cost(pool, as_langgraph_does(pool)) == (3, 1)


@dataclass
class Served:
    client: AsyncClient
    pool: SharedPool

    async def run_on(self, thread_id: str) -> None:
        run = {"assistant_id": "echo", "input": {"messages": ["hi"]}}
        answer = await self.client.post(f"/threads/{thread_id}/runs/wait", json=run)
        assert answer.status_code == 200, answer.text


@pytest.fixture
async def served(database_url: str, tmp_path: Path) -> AsyncIterator[Served]:
    settings = Settings.model_validate(
        {"server": {"grace_seconds": 0}, "database": {"url": database_url, "pool_max": 10}}
    )
    pools: list[SharedPool] = []

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        async with serving(settings, sources_from_objects({"echo": agent})) as state:
            pools.append(state.get(SharedPool))
            yield {"headrace": state}

    app = FastAPI(lifespan=lifespan)
    app.include_router(build_router())
    async with (
        started(app) as ready,
        AsyncClient(transport=ASGITransport(ready), base_url="http://server") as client,
    ):
        yield Served(client, pools[0])


async def test_a_trivial_run_in_place_costs_what_is_known(served: Served):
    """Sweepers of the process work beside it, so the least of many counts."""
    threads = [
        (await served.client.post("/threads", json={})).json()["thread_id"] for _ in range(20)
    ]
    await served.run_on(threads[0])
    costs = [await cost(served.pool, served.run_on(thread)) for thread in threads[1:]]
    print(costs)
    assert min(costs) == (2, 2)


async def test_concurrent_runs_share_transactions(served: Served):
    threads = [
        (await served.client.post("/threads", json={})).json()["thread_id"] for _ in range(32)
    ]
    await served.run_on(threads[0])
    runs = asyncio.gather(*(served.run_on(thread) for thread in threads))
    statements, transactions = await cost(served.pool, runs)
    print(f"32 runs: {statements} statements in {transactions} transactions")
    assert transactions < 32
