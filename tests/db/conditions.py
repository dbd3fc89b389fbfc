"""What tests of the pool wait for."""

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
