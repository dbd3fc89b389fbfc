"""Reads that share statements: what many callers want at one moment is one query.

While a query is under way, new reads gather for the next one. A read on a dead connection is
repeated on a checked connection. An answer from a server in recovery is not used.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from math import ceil
from typing import Generic, TypeVar

import structlog
from psycopg.rows import DictRow
from psycopg_pool import PoolTimeout, TooManyRequests

from headrace.db.faults import DATABASE_ERRORS
from headrace.db.held_connection import HeldConnection
from headrace.db.pool import WORN_BYTES, Connection, RecoveryError, SharedPool
from headrace.isolation import for_each_sound
from headrace.lifecycle import Tasks

_log = structlog.stdlib.get_logger("headrace.reader")

K = TypeVar("K", bound=Hashable)

#: Queries under way at once. More queries would only be smaller ones.
_QUERIES = 2

#: With fewer waiting reads than this, a second query would only make both smaller.
_READS_FOR_ANOTHER = 16

#: A dead connection costs one try. After it, connections are checked first.
_TRIES = 3


class SharedReads(ABC, Generic[K]):
    """One per process and statement; needs a running event loop.

    :param acquire_timeout_seconds: how long to wait for a connection.
    :param timeout_seconds: how long to wait for an answer.
    :param max_batch: the most keys of one query.
    :param waits_for_pool: whether to wait again if no connection became free, as runs do; requests
        are told at once.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        acquire_timeout_seconds: float,
        timeout_seconds: float,
        max_batch: int,
        waits_for_pool: bool = True,
    ) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds
        self._acquire_timeout_seconds = acquire_timeout_seconds
        self._max_batch = max_batch
        #: Errors after which a read is not repeated.
        self._final = () if waits_for_pool else (PoolTimeout, TooManyRequests)
        self._tasks = Tasks()
        self._wanted: dict[K, asyncio.Future[DictRow | None]] = {}
        self._queries = 0

    @abstractmethod
    async def ask(self, connection: Connection, keys: Sequence[K]) -> Sequence[DictRow]:
        """Send the statement. Its rows have ``number``, the position of a key from 1, and
        ``in_recovery``. A key without a row has no row, or one that :meth:`is_found` does not take.
        """

    @abstractmethod
    def is_found(self, row: DictRow) -> bool:
        """Whether the row is more than the answer that there is none."""

    def size_of(self, row: DictRow | None) -> int:
        """The bytes of large values in the row."""
        return 0

    async def row(self, key: K) -> DictRow | None:
        """The row of this key; None if there is none.

        :raises psycopg.OperationalError: the database cannot be reached.
        :raises TimeoutError: the database does not answer.
        """
        wanted = self._wanted.get(key)
        if wanted is None:
            wanted = self._wanted[key] = asyncio.get_running_loop().create_future()
            if self._queries < min(_QUERIES, ceil(len(self._wanted) / _READS_FOR_ANOTHER)):
                self._queries += 1
                self._tasks.start(self._query_until_empty(), name="shared-reads")
        return await asyncio.shield(wanted)

    async def stop(self) -> None:
        """Wait for the queries under way."""
        await self._tasks.join()

    async def _query_until_empty(self) -> None:
        held = HeldConnection(self._pool, timeout_seconds=self._acquire_timeout_seconds)
        try:
            while self._wanted:
                batch = dict(list(self._wanted.items())[: self._max_batch])
                for key in batch:
                    del self._wanted[key]
                await self._answer(batch, held)
                await held.share()
        except Exception as error:
            # A defect of headrace: no caller may wait for an answer that never comes.
            _log.exception("reads_given_up", reads=len(self._wanted))
            wanted, self._wanted = self._wanted, {}
            for waiting in wanted.values():
                waiting.set_exception(error)
                waiting.exception()
        finally:
            self._queries -= 1
            await held.give_back()

    async def _answer(
        self, batch: dict[K, "asyncio.Future[DictRow | None]"], held: HeldConnection
    ) -> None:
        """Answer all reads. A row that cannot be read fails only the callers that wait for it."""

        async def answer(keys: Sequence[K]) -> None:
            for key, row in zip(keys, await self._read(keys, held), strict=True):
                if not batch[key].done():
                    batch[key].set_result(row)

        try:
            failed = await for_each_sound(list(batch), answer, passing=DATABASE_ERRORS)
            if failed:
                _log.warning("read_failed", reads=len(failed), exc_info=failed[0][1])
        except Exception as error:
            _log.warning("read_failed", reads=len(batch), exc_info=error)
            failed = [(key, error) for key in batch]
        for key, fault in failed:
            if not batch[key].done():
                batch[key].set_exception(fault)
                # The caller may be gone.
                batch[key].exception()

    async def _read(self, keys: Sequence[K], held: HeldConnection) -> list[DictRow | None]:
        for tries_left in reversed(range(_TRIES)):
            try:
                rows = await held.use(
                    lambda connection: self._rows(connection, keys),
                    seconds=self._timeout_seconds,
                )
            except self._final:
                raise
            except DATABASE_ERRORS:
                await held.examine()
                if not tries_left:
                    raise
            except Exception:
                # The next query on this connection must not get the rest of this answer.
                await held.examine()
                raise
            else:
                if sum(map(self.size_of, rows)) > WORN_BYTES:
                    await held.wear_out()
                return rows
        raise AssertionError("unreachable")

    async def _rows(self, connection: Connection, keys: Sequence[K]) -> list[DictRow | None]:
        rows = await self.ask(connection, keys)
        if rows and rows[0]["in_recovery"]:
            raise RecoveryError("the server is in recovery; its data may be old")
        found: list[DictRow | None] = [None] * len(keys)
        for row in rows:
            if self.is_found(row):
                found[row["number"] - 1] = row
        return found
