"""Objects on a test's own database, opened and closed with the test."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import SecretStr

from headrace.db.conninfo import connection_string
from headrace.db.pool import SharedPool, build_pool, probe
from headrace.settings import DatabaseSettings


def database_settings(url: str, **changes: object) -> DatabaseSettings:
    return DatabaseSettings.model_validate({"url": SecretStr(url), **changes})


@asynccontextmanager
async def open_pool(url: str, **changes: object) -> AsyncIterator[SharedPool]:
    settings = database_settings(url, **changes)
    pool = build_pool(settings, await probe(connection_string(settings)))
    await pool.open(wait=True)
    try:
        yield pool
    finally:
        await pool.close()
