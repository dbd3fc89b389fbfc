"""What tests of the pool wait for."""

import asyncio
from collections.abc import Awaitable, Callable

import psycopg

from headrace.db.pool import SharedPool
from tests.support.waiting import eventually


def at_rest(pool: SharedPool, size: int) -> bool:
    """All ``size`` connections are in the pool, and nobody has or awaits one."""
    figures = pool.figures()
    return (figures.size, figures.available) == (
        size,
        size,
    ) and figures.in_use == figures.leaked == figures.waiting == 0


async def until_at_rest(pool: SharedPool, size: int) -> None:
    try:
        await eventually(lambda: at_rest(pool, size))
    except TimeoutError:
        raise AssertionError(f"the pool did not come to rest: {pool.figures()}") from None


def kill_backends(url: str) -> int:
    """End every other session of the database; returns how many there were."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(pg_terminate_backend(pid, 2000)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        ).fetchone()
    assert row is not None
    return int(row[0])


async def while_connections_break(
    url: str, read: Callable[[], Awaitable[object]], *, readers: int
) -> None:
    """Call ``read`` again and again in ``readers`` tasks, while all sessions of the database end,
    eight times. It must not fail.
    """
    reads, ended = 0, asyncio.Event()

    async def go_on() -> None:
        nonlocal reads
        while not ended.is_set():
            await read()
            reads += 1

    tasks = [asyncio.ensure_future(go_on()) for _ in range(readers)]
    for _ in range(8):
        wanted = reads + 8
        await eventually(lambda: reads > wanted or any(task.done() for task in tasks))  # noqa: B023
        await asyncio.to_thread(kill_backends, url)
    ended.set()
    await asyncio.gather(*tasks)


def active_queries(url: str, containing: str) -> int:
    """Sessions that run a statement with this text now."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state = 'active' AND query LIKE %s",
            (f"%{containing}%",),
        ).fetchone()
    assert row is not None
    return int(row[0])
