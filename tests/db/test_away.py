"""A database that is away is told from a pool that is used up, with the driver's own word."""

import os
import signal

import psycopg
import pytest
import structlog

from headrace.db.faults import driver_reason, public_reason, translated_faults
from headrace.health.checks import DatabaseCheck, DatabaseProbe
from headrace.unavailable_errors import DatabaseUnavailable, PoolExhausted
from tests.support.database import open_pool
from tests.support.waiting import eventually

SECRET = "geheim-4711"


async def answer_of(pool) -> Exception:
    """What a request is answered with that needs a connection."""
    try:
        with translated_faults():
            async with pool.connection():
                raise AssertionError("there was one")
    except (DatabaseUnavailable, PoolExhausted) as answer:
        return answer


async def test_a_pool_that_is_used_up_is_exhausted(database_url):
    async with (
        open_pool(database_url, pool_min=1, pool_max=1, acquire_timeout_seconds=0.3) as pool,
        pool.connection(),
    ):
        assert isinstance(await answer_of(pool), PoolExhausted)
        assert pool.fault is None


@pytest.mark.parametrize("how", ["stopped", "frozen", "refusing"])
async def test_a_database_that_is_away_says_why_once(private_postgres, how):
    url = private_postgres.url
    if how == "refusing":
        with psycopg.connect(url, autocommit=True) as database:
            database.execute("CREATE ROLE ada LOGIN")
        url = url.replace("postgres@", f"ada:{SECRET}@")
    async with open_pool(url, acquire_timeout_seconds=3, connect_timeout_seconds=2) as pool:
        probe = DatabaseProbe(DatabaseCheck(pool), interval_seconds=0.05)
        with structlog.testing.capture_logs() as lines:
            await probe.start()
            undo = away(private_postgres, how)
            try:
                await eventually(lambda: probe.problem is not None, seconds=20)
                await eventually(lambda: pool.fault is not None, seconds=20)
                assert isinstance(await answer_of(pool), DatabaseUnavailable)
                told = [line for line in lines if line["event"] == "database_lost"]
                assert 1 <= len(told) <= 2
                assert "PoolExhausted" not in str(told)
                assert SECRET not in str(told)
                expected = {
                    "stopped": ("Connection refused",),
                    "frozen": ("does not answer", "no answer", "timeout"),
                    "refusing": ("not permitted to log in",),
                }[how]
                assert any(word in str(told) + str(pool.fault) for word in expected), told
                assert str(probe.problem).startswith("the database does not answer")
                assert '"ada"' not in str(probe.problem)
            finally:
                undo()
            await eventually(lambda: probe.problem is None, seconds=30)
            await probe.stop()


def away(postgres, how):
    """Take the database away; returns what brings it back."""
    if how == "stopped":
        postgres.stop()
        return postgres.start
    if how == "frozen":
        with psycopg.connect(postgres.url, autocommit=True) as database:
            pids = [row[0] for row in database.execute("SELECT pid FROM pg_stat_activity")]
            row = database.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
            own = database.info.backend_pid
        assert row is not None
        frozen = [pid for pid in pids if pid != own] + [int(row[0].split()[0])]
        for pid in frozen:
            os.kill(pid, signal.SIGSTOP)

        def thaw():
            for pid in frozen:
                os.kill(pid, signal.SIGCONT)

        return thaw

    def sql(text):
        with psycopg.connect(postgres.url, autocommit=True) as database:
            database.execute(text)

    sql("ALTER ROLE ada NOLOGIN")
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'ada'")
    return lambda: sql("ALTER ROLE ada LOGIN")


@pytest.mark.parametrize(
    ("said", "word"),
    [
        (
            'connection failed: connection to server at "10.0.0.3", port 5432 failed: FATAL: '
            ' password authentication failed for user "ada"',
            'FATAL:  password authentication failed for user "ada"',
        ),
        (
            'connection failed: connection to server on socket "/tmp/x/.s.PGSQL.5432" failed:'
            " No such file or directory\n\tIs the server running locally?",
            "No such file or directory",
        ),
        (
            "server closed the connection unexpectedly\n\tThis probably means the server"
            " terminated abnormally\n\tbefore or while processing the request.",
            "server closed the connection unexpectedly",
        ),
        (f"bad postgresql://ada:{SECRET}@db/app", "bad postgresql://ada:***@db/app"),
        ("", "OperationalError"),
    ],
)
def test_the_drivers_word_is_its_reason_and_no_secret(said, word):
    assert driver_reason(psycopg.OperationalError(said)) == word
    assert '"' not in public_reason(word)
