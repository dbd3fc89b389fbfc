"""Objects on a test's own database, opened and closed with the test."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
from pydantic import SecretStr

from headrace.db.conninfo import connection_string
from headrace.db.pool import SharedPool, build_pool
from headrace.db.probe import probe
from headrace.embedded.launcher import EmbeddedPostgres
from headrace.setting_groups import DatabaseSettings


def database_settings(url: str, **changes: object) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"url": SecretStr(url), **changes})


@asynccontextmanager
async def open_pool(url: str, **changes: object) -> AsyncIterator[SharedPool]:
    settings = database_settings(url, **changes)
    facts = await probe(connection_string(settings))
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
