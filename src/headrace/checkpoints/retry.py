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

T = TypeVar("T")


async def retried(work: Callable[[], Awaitable[T]], *, seconds: float, operation: str) -> T:
    """Return what ``work`` returns; repeat it, for ``seconds`` at most, while the database is away.

    A statement that was cancelled is not repeated: it would take as long again.

    :param operation: its name in the log line ``operation_repeated``.
    :raises DatabaseUnavailable: the database stayed away.
    """
    deadline = monotonic() + seconds
    tries = 0
    while True:
        try:
            return await work()
        except DATABASE_ERRORS as error:
            if not passes(error) or isinstance(error, psycopg.errors.QueryCanceled):
                raise
            if monotonic() > deadline:
                raise DatabaseUnavailable from error
            _log.warning("operation_repeated", operation=operation, error=first_line(error))
        await asyncio.sleep(retry_delay_seconds(tries))
        tries += 1
