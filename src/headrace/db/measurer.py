"""Measures the database for ``/metrics``: in each pod, one process does that now and then.

It must harm nobody. Its statements have short time limits, it takes no connection while requests
wait for one, and what cannot be measured is absent.
"""

from collections.abc import Callable, Coroutine
from functools import partial
from time import monotonic, time
from typing import Any, TypeVar

import psycopg
import structlog
from psycopg.errors import QueryCanceled

from headrace.db.credentials import Credentials, password_expires_seconds
from headrace.db.faults import translated_faults
from headrace.db.held_connection import HeldConnection
from headrace.db.pool import Connection, SharedPool
from headrace.db.storage import largest_recent_bytes
from headrace.db.table_statistics import OldestTransaction, read_tables
from headrace.db.transactions import bounded_transaction
from headrace.error_text import first_line
from headrace.lifecycle import Tasks
from headrace.observability.figures import DatabaseFigures
from headrace.observability.slots import StatusBoard
from headrace.thread_pool import in_a_thread
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.db")

T = TypeVar("T")

#: Time limits of one statement: for all of it, and for its wait for a lock.
_STATEMENT_SECONDS = 2.0
_LOCK_SECONDS = 0.2
#: A server without an answer is given up after this.
_ANSWER_SECONDS = 8.0
_ACQUIRE_SECONDS = 1.0

#: The largest thread is sought at most this often, in seconds.
_THREADS_SECONDS = 600.0
#: It is sought among the threads of so many runs; among fewer if that takes too long.
_RECENT_RUNS = (100, 20, 4)


class DatabaseMeasurer:
    """The process that leads the pod measures; in the others :attr:`figures` is None."""

    def __init__(
        self, pool: SharedPool, board: StatusBoard, credentials: Credentials, *, seconds: float
    ) -> None:
        self._pool = pool
        self._board = board
        self._credentials = credentials
        self._seconds = seconds
        self._oldest = OldestTransaction()
        self._threads_due = 0.0
        self._largest_thread: int | None = None
        self.figures: DatabaseFigures | None = None

    def start(self, tasks: Tasks) -> None:
        """Measure from now on; does nothing if that is switched off."""
        if self._seconds:
            tasks.repeat(
                self.measure,
                every_seconds=self._seconds,
                at_once=True,
                name="database-measurer",
                log=_log,
                skipped_event="database_not_measured",
            )

    async def measure(self) -> None:
        """One round. While requests wait for a connection, the last figures stay.

        If Postgres refuses a statement, for example for want of rights, that is logged and
        :attr:`figures` is None.

        :raises Unavailable: the database did not answer, or a table is locked; :attr:`figures` is
            None then.
        """
        if not self._board.leads:
            self.figures = None
            return
        if self._pool.is_wanted:
            return
        held = HeldConnection(self._pool, timeout_seconds=_ACQUIRE_SECONDS)
        try:
            self.figures = await self._read(held)
        except Unavailable:
            self.figures = None
            raise
        except psycopg.Error as error:
            self.figures = None
            _log.warning("database_not_measured", error=first_line(error))
        finally:
            await held.give_back()

    async def _read(self, held: HeldConnection) -> DatabaseFigures:
        certificates = await in_a_thread(self._credentials.certificates)
        with translated_faults():
            tables = await self._ask(held, read_tables)
            oldest = await self._ask(held, self._oldest.seconds)
            password = await self._ask(held, password_expires_seconds)
            await self._measure_threads(held)
        now = time()
        credentials = {name: expires - now for name, expires in certificates.items()}
        if password is not None:
            credentials["password"] = password
        return DatabaseFigures(tables, oldest, self._largest_thread, credentials)

    async def _measure_threads(self, held: HeldConnection) -> None:
        if monotonic() < self._threads_due:
            return
        self._threads_due = monotonic() + _THREADS_SECONDS
        self._largest_thread = None
        for runs in _RECENT_RUNS:
            try:
                self._largest_thread = await self._ask(
                    held, partial(largest_recent_bytes, runs=runs)
                )
            except QueryCanceled:
                continue
            return

    async def _ask(
        self, held: HeldConnection, read: Callable[[Connection], Coroutine[Any, Any, T]]
    ) -> T:
        """The result of ``read``, in a transaction with time limits."""

        async def work(connection: Connection) -> T:
            async with bounded_transaction(
                connection, statement_seconds=_STATEMENT_SECONDS, lock_seconds=_LOCK_SECONDS
            ):
                return await read(connection)

        try:
            return await held.use(work, seconds=_ANSWER_SECONDS)
        except (psycopg.Error, TimeoutError):
            await held.examine()
            raise
