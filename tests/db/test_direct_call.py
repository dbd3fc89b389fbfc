"""One statement past psycopg's cursor: the same results, the same errors."""

import asyncio

import psycopg
import pytest

from headrace.db.arrays import Text
from headrace.db.direct_call import fetch_text
from headrace.db.statements import statement
from tests.support.database import open_pool

JOINED = statement("SELECT array_to_string($1::text[], ',')")
DIVIDED = statement("SELECT (1 / array_length($1::text[], 1) / ($1::text[])[1]::int)::text")


@pytest.fixture(params=["on", "off"])
async def pool(request, database_url):
    async with open_pool(
        database_url, pool_min=1, pool_max=1, prepared_statements=request.param
    ) as opened:
        yield opened


async def test_the_value_comes_back(pool):
    async with pool.connection() as connection:
        for values in ([b"a", "ü".encode()], [b"b"], []):
            expected = ",".join(value.decode() for value in values)
            assert await fetch_text(connection, JOINED, [Text(values)]) == expected
        assert await fetch_text(connection, statement("SELECT NULL::text"), []) is None


async def test_an_error_is_psycopgs_and_the_connection_goes_on(pool):
    async with pool.connection() as connection:
        for _ in range(2):
            with pytest.raises(psycopg.errors.DivisionByZero):
                await fetch_text(connection, DIVIDED, [Text([b"0"])])
        with pytest.raises(psycopg.errors.UndefinedTable):
            await fetch_text(connection, statement("SELECT nothing FROM nowhere"), [])
        assert await fetch_text(connection, JOINED, [Text([b"a"])]) == "a"
        cursor = await connection.execute("SELECT 1")
        assert await cursor.fetchone() == (1,)


async def test_it_is_counted_and_is_a_transaction_of_its_own(pool):
    async with pool.connection() as connection:
        before = (pool.traffic.statements, pool.traffic.transactions)
        await fetch_text(connection, JOINED, [Text([b"a"])])
        after = (pool.traffic.statements, pool.traffic.transactions)
        assert (after[0] - before[0], after[1] - before[1]) == (1, 1)


async def test_a_call_that_is_cancelled_leaves_a_usable_connection(pool):
    slow = statement("SELECT pg_sleep(60)::text")
    async with pool.connection() as connection:
        calling = asyncio.ensure_future(fetch_text(connection, slow, []))
        await asyncio.sleep(0.2)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert await fetch_text(connection, JOINED, [Text([b"a"])]) == "a"


async def test_a_rollback_loses_no_statement(pool):
    """After one, psycopg tells Postgres to forget all statements that are prepared."""
    async with pool.connection() as connection:
        assert await fetch_text(connection, JOINED, [Text([b"a"])]) == "a"
        for command in ("BEGIN", "SELECT 1", "ROLLBACK", "SELECT 1"):
            await connection.execute(command, prepare=command.startswith("SELECT"))
        for text in (b"b", b"c"):
            assert await fetch_text(connection, JOINED, [Text([text])]) == text.decode()
