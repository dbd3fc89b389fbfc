"""A server that takes no writes is no server: a demoted primary answers, and is passed over."""

from pathlib import Path

import psycopg
import pytest

from headrace.db.faults import translated_faults
from headrace.db.logins import Login
from headrace.db.pool import RecoveryError, check_connection
from headrace.db.probe import probe
from headrace.unavailable_errors import PoolExhausted
from tests.db.conditions import until_at_rest
from tests.support.database import open_pool


def demote(server) -> None:
    """Start the same data again as a standby, at the same address."""
    with psycopg.connect(server.url, autocommit=True) as connection:
        row = connection.execute("SELECT current_setting('data_directory')").fetchone()
    assert row is not None
    server.stop()
    Path(row[0], "standby.signal").touch()
    server.start()


def promote(server) -> None:
    with psycopg.connect(server.url, autocommit=True) as connection:
        assert connection.execute("SELECT pg_promote(true, 30)").fetchone() == (True,)


async def test_a_demoted_primary_is_passed_over_until_it_is_promoted(private_postgres):
    size = 2
    async with open_pool(
        private_postgres.url, pool_min=size, pool_max=size, acquire_timeout_seconds=1.0
    ) as pool:
        demote(private_postgres)
        assert (await probe(Login(private_postgres.url))).in_recovery
        async with await psycopg.AsyncConnection.connect(private_postgres.url) as connection:
            with pytest.raises(RecoveryError):
                await check_connection(connection)
        with pytest.raises(PoolExhausted), translated_faults():
            await pool.getconn()
        promote(private_postgres)
        async with pool.connection(timeout=10) as connection:
            await connection.execute("CREATE TABLE writable (v int)")
        await until_at_rest(pool, size)
