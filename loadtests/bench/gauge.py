"""What a stretch of work cost the server: processor time, transactions, bytes of its log.

Processor time is that of the postmaster and all its children: backends, writers, and those that
have ended, whose time their parent keeps.

Transactions are those that Postgres itself counted for the database. A backend reports its count at
most once a second while it is used, and for certain when it ends; so they are counted from the
opening of a contender's connections to their end, and what opening alone counts is taken off.
"""

import asyncio
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import AsyncConnection

from loadtests.measuring.database import MeasuredDatabase, PostgresProcessor

_TABLES = "checkpoints, checkpoint_blobs, checkpoint_writes"
_GONE_SECONDS = 10.0


@dataclass(frozen=True)
class Reading:
    """``cpu_seconds`` since the server began; ``wal_bytes`` its position in its log."""

    cpu_seconds: float | None
    wal_bytes: int

    def __sub__(self, earlier: "Reading") -> "Reading":
        known = self.cpu_seconds is not None and earlier.cpu_seconds is not None
        cpu = (self.cpu_seconds or 0) - (earlier.cpu_seconds or 0) if known else None
        return Reading(cpu, self.wal_bytes - earlier.wal_bytes)


class Gauge:
    """Reads the server over a connection to another database, so that it does not count itself."""

    def __init__(self, database: MeasuredDatabase) -> None:
        self._database = database
        self._connection: AsyncConnection | None = None
        self._processor = PostgresProcessor(database)

    async def __aenter__(self) -> Self:
        self._connection = await AsyncConnection.connect(self._database.admin_url, autocommit=True)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        await self._connection.close()

    async def empty(self) -> None:
        """The same start for everybody: no rows, and dirty pages written out."""
        async with await AsyncConnection.connect(self._database.url, autocommit=True) as connection:
            await connection.execute(f"TRUNCATE {_TABLES}")
            try:
                await connection.execute("CHECKPOINT")
            except psycopg.errors.InsufficientPrivilege:
                return  # Not our server; it costs all contenders the same.

    async def read(self) -> Reading:
        position = await self._ask("SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')")
        return Reading(self._processor.seconds(), int(position))

    async def transactions(self) -> int:
        """Committed in the database so far; waits until no backend is left that has not told."""
        async with asyncio.timeout(_GONE_SECONDS):
            while await self._ask(  # noqa: ASYNC110 - polled: they end in another process
                "SELECT count(*) FROM pg_stat_activity"
                " WHERE datname = %s AND backend_type = 'client backend'"
            ):
                await asyncio.sleep(0.01)
        return int(await self._ask("SELECT xact_commit FROM pg_stat_database WHERE datname = %s"))

    async def _ask(self, question: str) -> int:
        assert self._connection is not None
        parameters = [self._database.name] if "%s" in question else None
        cursor = await self._connection.execute(question.encode(), parameters)
        row = await cursor.fetchone()
        assert row is not None
        value: int = row[0]
        return value
