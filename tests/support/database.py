"""Objects on a test's own database, opened and closed with the test."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from pydantic import SecretStr

from headrace.database_settings import DatabaseSettings
from headrace.db.logins import login_of
from headrace.db.pool import SharedPool
from headrace.db.pool_builder import build_pool
from headrace.db.probe import probe
from headrace.embedded.launcher import EmbeddedPostgres


def database_settings(url: str, **changes: object) -> DatabaseSettings:
    # By default, callers do not wait for a database that is away: most tests look for the error.
    given = {"away_timeout_seconds": 0.0, **changes}
    return DatabaseSettings.model_validate({"url": SecretStr(url), **given})


@asynccontextmanager
async def open_pool(url: str, **changes: object) -> AsyncIterator[SharedPool]:
    settings = database_settings(url, **changes)
    facts = await probe(login_of(settings))
    pool = build_pool(settings, behind_pooler=facts.behind_pooler)
    await pool.open(wait=True)
    try:
        yield pool
    finally:
        await pool.close()


class PrivatePostgres:
    """An embedded server that keeps its TCP address over restarts."""

    def __init__(self, server: EmbeddedPostgres, port: int) -> None:
        self._server = server
        self.url = f"postgresql://postgres@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        self._server.stop()

    def crash(self) -> None:
        """``pg_ctl stop -m immediate``: nobody is waited for, and the next start recovers."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            row = connection.execute("SELECT pg_read_file('postmaster.pid')").fetchone()
        assert row is not None
        os.kill(int(row[0].split()[0]), signal.SIGQUIT)
        self._server.stop()


class GuardedPostgres:
    """A server whose role ``app`` logs in over TCP with a password. It owns no table."""

    role = "app"

    def __init__(self, trusted_url: str, port: int) -> None:
        #: Leads to the server without a password, as its superuser.
        self.trusted_url = trusted_url
        self.url = f"postgresql://app@127.0.0.1:{port}/postgres"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.trusted_url, autocommit=True) as connection:
            connection.execute(statement)

    def set_password(self, password: str) -> None:
        self.execute(f"ALTER ROLE app PASSWORD '{password}'")

    def cut_sessions(self) -> int:
        """End all sessions of the role; return how many there were."""
        with psycopg.connect(self.trusted_url, autocommit=True) as connection:
            row = connection.execute(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                " WHERE usename = 'app'"
            ).fetchone()
        assert row is not None
        return int(row[0])
