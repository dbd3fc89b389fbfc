"""Repeats work that meets a dead connection, a silent server or no server.

Only for work that may be done twice: reads, and writes that leave the same rows each time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

import psycopg
import structlog

from headrace.db.faults import DATABASE_ERRORS, passes, retry_delay_seconds
from headrace.error_text import first_line
from headrace.unavailable_errors import DatabaseUnavailable

_log = structlog.stdlib.get_logger("headrace.checkpoints")

#: How long a read of checkpoints is repeated while the database is away.
READ_SECONDS = 10.0

_TOO_SLOW = (psycopg.errors.QueryCanceled, psycopg.errors.TransactionTimeout)

T = TypeVar("T")


class Retries:
    """The tries of one operation. None begins later than ``seconds`` after the first one.

    A statement or a transaction that was ended at its time limit is not repeated: it would take as
    long again.

    :param operation: its name in the log line ``operation_repeated``.
    """

    def __init__(self, *, seconds: float, operation: str) -> None:
        self._deadline = monotonic() + seconds
        self._operation = operation
        self._tries = 0

    async def after(self, error: Exception) -> None:
        """Wait before the next try; the last one has raised ``error``.

        :raises Exception: ``error``, if no retry may help.
        :raises DatabaseUnavailable: the database stayed away.
        """
        try:
            if not passes(error) or isinstance(error, _TOO_SLOW):
                raise error
            if monotonic() > self._deadline:
                raise DatabaseUnavailable from error
            _log.warning("operation_repeated", operation=self._operation, error=first_line(error))
        finally:
            # The error has this frame in its traceback.
            del error
        await asyncio.sleep(retry_delay_seconds(self._tries))
        self._tries += 1


async def retried(work: Callable[[], Awaitable[T]], *, seconds: float, operation: str) -> T:
    """Return what ``work`` returns; repeat it as :class:`Retries` says while the database is away.

    :raises DatabaseUnavailable: the database stayed away.
    """
    retries = Retries(seconds=seconds, operation=operation)
    while True:
        try:
            return await work()
        except DATABASE_ERRORS as error:
            await retries.after(error)
