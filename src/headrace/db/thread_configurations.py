"""The configuration that a thread shows: that of its latest run, which may hold a caller's key.

It goes with the run. A deletion of runs locks their threads first. At its end the threads forget
what none of their runs has any more. So the order in which processes have made the runs does not
matter.
"""

from collections.abc import Sequence
from uuid import UUID

from headrace.db.pool import Connection
from headrace.db.statements import statement

_SHOWN = "config -> 'configurable' <> '{}'"

#: Threads before runs: the lock order of queue.sql. Threads that show nothing are not locked.
LOCK_THREADS_OF_RUNS = f"""
SELECT thread_id FROM threads
WHERE thread_id IN (SELECT thread_id FROM runs WHERE run_id = ANY (%(run_ids)s::uuid[]))
  AND {_SHOWN}
ORDER BY thread_id
FOR NO KEY UPDATE
"""  # noqa: S608 - of constants


def forgetting(thread_ids: str) -> str:
    """The statement that lets threads forget.

    :param thread_ids: an expression for a set of locked threads.
    """
    return f"""
UPDATE threads SET config = '{{}}'
WHERE thread_id IN ({thread_ids}) AND {_SHOWN}
  AND NOT EXISTS (
    SELECT FROM runs
    WHERE runs.thread_id = threads.thread_id
      AND (runs.kwargs -> 'config' -> 'configurable')
        @> (threads.config -> 'configurable'))
"""  # noqa: S608 - of constants


FORGET = forgetting("SELECT unnest(%(thread_ids)s::text[])")
_LOCK, _FORGET = statement(LOCK_THREADS_OF_RUNS), statement(FORGET)


async def lock_threads_of_runs(connection: Connection, run_ids: Sequence[UUID]) -> list[str]:
    """Lock the threads of runs that are to be deleted; returns those that may have to forget."""
    cursor = await connection.execute(_LOCK, {"run_ids": list(run_ids)})
    return [row[0] for row in await cursor.fetchall()]


async def forget_configurations(connection: Connection, thread_ids: Sequence[str]) -> None:
    """Empty the configurations of these threads that none of their runs has."""
    if thread_ids:
        await connection.execute(_FORGET, {"thread_ids": list(thread_ids)})
