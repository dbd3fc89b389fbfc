"""Repeats work while the database is away: while it restarts, stands still, or fails over.

Only for work that may be done twice.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import TypeVar

from headrace.db.faults import retry_delay_seconds
from headrace.unavailable_errors import DatabaseUnavailable, OutcomeUnknown, StatementTooSlow

T = TypeVar("T")


async def repeated(
    work: Callable[[], Awaitable[T]],
    *,
    seconds: float,
    on_repeat: Callable[[], None] = lambda: None,
) -> T:
    """The result of ``work``. It is done again, for ``seconds`` at most, while it raises
    :class:`DatabaseUnavailable`.

    :param on_repeat: called before each repetition.
    :raises DatabaseUnavailable: the database has stayed away.
    :raises StatementTooSlow: a statement took too long; it would take as long again.
    :raises OutcomeUnknown: it is perhaps done.
    """
    deadline, tries = monotonic() + seconds, 0
    while True:
        try:
            return await work()
        except (StatementTooSlow, OutcomeUnknown):
            raise
        except DatabaseUnavailable:
            if monotonic() >= deadline:
                raise
        await asyncio.sleep(retry_delay_seconds(tries))
        tries += 1
        on_repeat()
