"""Upstream's saver on a pool of ten connections."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool

from loadtests.peers.application import application

_CONNECTIONS = 10


def app() -> FastAPI:
    """Reads the address of its database from DATABASE_URL."""
    return application(_pooled)


@asynccontextmanager
async def _pooled() -> AsyncIterator[AsyncPostgresSaver]:
    kwargs: dict[str, Any] = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
    pool: AsyncConnectionPool[AsyncConnection[DictRow]] = AsyncConnectionPool(
        os.environ["DATABASE_URL"],
        min_size=_CONNECTIONS,
        max_size=_CONNECTIONS,
        kwargs=kwargs,
        open=False,
    )
    async with pool:
        yield AsyncPostgresSaver(pool)
