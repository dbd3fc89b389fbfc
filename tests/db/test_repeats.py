"""Work that is repeated while the database is away, and pools whose callers wait for it."""

import asyncio
from time import monotonic

import pytest

from headrace.db.faults import DatabaseAway, translated_faults
from headrace.db.repeats import repeated
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted, StatementTooSlow
from tests.support.database import open_pool


async def test_work_is_repeated_until_the_database_is_back():
    calls, repeats = [], []

    async def work() -> str:
        calls.append(monotonic())
        if len(calls) < 4:
            raise DatabaseUnavailable
        return "done"

    assert await repeated(work, seconds=5, on_repeat=lambda: repeats.append(1)) == "done"
    assert (len(calls), len(repeats)) == (4, 3)


@pytest.mark.parametrize(
    ("error", "seconds"), [(StatementTooSlow, 5.0), (DatabaseUnavailable, 0.0), (ValueError, 5.0)]
)
async def test_other_faults_and_no_time_mean_one_try(error, seconds):
    calls = []

    async def work() -> None:
        calls.append(1)
        raise error

    with pytest.raises(error):
        await repeated(work, seconds=seconds)
    assert len(calls) == 1


async def test_the_last_error_comes_when_the_time_is_over():
    async def work() -> None:
        raise DatabaseUnavailable

    began = monotonic()
    with pytest.raises(DatabaseUnavailable):
        await repeated(work, seconds=0.3)
    assert 0.3 <= monotonic() - began < 5


async def test_a_caller_without_a_timeout_waits_for_a_server_that_is_away(private_postgres):
    async with open_pool(
        private_postgres.url, pool_min=1, acquire_timeout_seconds=0.5, away_timeout_seconds=30
    ) as pool:
        await asyncio.to_thread(private_postgres.stop)
        waiting = asyncio.ensure_future(pool.getconn())
        with pytest.raises(DatabaseAway):
            await pool.getconn(1.5)
        assert not waiting.done()
        await asyncio.to_thread(private_postgres.start)
        await pool.putconn(await waiting)


async def test_a_full_pool_is_no_reason_to_wait_longer(database_url):
    async with (
        open_pool(
            database_url,
            pool_min=1,
            pool_max=1,
            acquire_timeout_seconds=0.3,
            away_timeout_seconds=30,
        ) as pool,
        pool.connection(),
    ):
        began = monotonic()
        with pytest.raises(PoolExhausted), translated_faults():
            await pool.getconn()
        assert monotonic() - began < 10
