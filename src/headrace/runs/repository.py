"""Runs in the database; each call sees the runs of its caller only.

The queue creates and changes runs. This module reads runs, and deletes runs that have ended.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast
from uuid import UUID

from sqlalchemy import delete, func, select, text

from headrace.auth.principal import Principal
from headrace.auth.row_scope import (
    scope_values,
    visible_run,
    visible_run_text,
    visible_text,
)
from headrace.db.engine import Sessions
from headrace.db.row_sizes import RowPage, read_page
from headrace.db.tables import TERMINAL, RunEventRow, RunRow
from headrace.db.thread_configurations import FORGET, LOCK_THREADS_OF_RUNS

#: Columns that may be large: callers send their content.
_LARGE = ("kwargs", "metadata")


#: Runs of a thread. A run that is being rolled back is not shown; a run that was asked to stop is
#: shown as ``interrupted``.
_PAGE, _PAGE_INTERRUPTED, _PAGE_OF_STATUS = (
    f"""
SELECT * FROM runs
WHERE {visible_run_text("runs")} AND thread_id = :thread_id
  AND NOT (status IN ('pending', 'running') AND coalesce(cancel_action, '') = 'rollback')
  {of_status}
ORDER BY run_id DESC LIMIT :limit OFFSET :offset"""  # noqa: S608 - of constants
    for of_status in (
        "",
        "AND (status = :status OR status IN ('pending', 'running') AND cancel_action IS NOT NULL)",
        "AND status = :status"
        " AND NOT (status IN ('pending', 'running') AND cancel_action IS NOT NULL)",
    )
)


@dataclass(frozen=True, slots=True)
class FoundCheckpoints:
    """
    :ivar missing: checkpoints that the thread does not have.
    :ivar at_head: the named checkpoint is the thread's last one, or was the last one when the
        present chain of runs began. A caller that names it means the thread's last checkpoint.
    """

    missing: Sequence[str]
    at_head: bool


#: ``following`` is the present chain of runs: each run was made while an earlier run of the chain
#: was unfinished. A thread without an unfinished run has no chain. The query looks at 100 runs at
#: most.
_FIND_CHECKPOINTS = text(
    f"""
WITH recent AS (
  SELECT run_id, status, created_at, coalesce(ended_at, 'infinity') AS ended_at
  FROM runs
  WHERE thread_id = :thread_id AND {visible_run_text("runs")} AND created_at <= clock_timestamp()
  ORDER BY run_id DESC
  LIMIT 100
), following AS (
  SELECT run_id::text FROM recent
  WHERE EXISTS (SELECT FROM recent WHERE status IN ('pending', 'running'))
    AND created_at >= (
      SELECT max(first.created_at) FROM recent AS first
      WHERE NOT EXISTS (
        SELECT FROM recent AS before
        WHERE (before.created_at, before.run_id) < (first.created_at, first.run_id)
          AND before.ended_at >= first.created_at))
)
SELECT
  ARRAY(
    SELECT given.checkpoint_id
    FROM unnest(CAST(:namespaces AS text[]), CAST(:checkpoint_ids AS text[]))
      AS given (checkpoint_ns, checkpoint_id)
    WHERE NOT EXISTS (
      SELECT FROM checkpoints JOIN threads USING (thread_id)
      WHERE checkpoints.thread_id = :thread_id AND {visible_text("threads")}
        AND checkpoints.checkpoint_ns = given.checkpoint_ns
        AND checkpoints.checkpoint_id = given.checkpoint_id)) AS missing,
  NOT EXISTS (
    SELECT FROM checkpoints
    WHERE thread_id = :thread_id AND checkpoint_ns = '' AND checkpoint_id > CAST(:root AS text)
      AND (metadata ->> 'run_id' IS NULL
        OR metadata ->> 'run_id' NOT IN (SELECT run_id FROM following))) AS at_head
"""  # noqa: S608 - of constants
)


_INTERRUPTED_TRACE = text(
    f"""
SELECT runs.traceparent
FROM threads JOIN runs USING (thread_id)
WHERE threads.thread_id = :thread_id AND {visible_text("threads")}
  AND threads.status = 'interrupted'
ORDER BY runs.run_id DESC
LIMIT 1
"""  # noqa: S608 - of constants
)


class RunRepository:
    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    async def get(self, principal: Principal, thread_id: str, run_id: UUID) -> RunRow | None:
        statement = select(RunRow).where(
            visible_run(principal),
            RunRow.thread_id == thread_id,
            RunRow.run_id == run_id,
        )
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def find(self, principal: Principal, run_id: UUID) -> RunRow | None:
        """The run with this id, on any thread."""
        statement = select(RunRow).where(visible_run(principal), RunRow.run_id == run_id)
        async with self._sessions.begin() as session:
            return (await session.scalars(statement)).one_or_none()

    async def interrupted_trace(self, principal: Principal, thread_id: str) -> str | None:
        """The ``traceparent`` of the run that a thread waits after; None if it waits for nothing,
        or if that run has none.
        """
        values = {"thread_id": thread_id, **scope_values(principal)}
        async with self._sessions.begin() as session:
            found = (await session.execute(_INTERRUPTED_TRACE, values)).scalar_one_or_none()
        return cast("str | None", found)

    async def delete_if_ended(self, principal: Principal, run_id: UUID) -> bool:
        """Delete the run; False when it has not ended, or is not there.

        Its thread no longer shows its configuration. Its stored events are deleted too. If another
        process reads them now, they stay until the next sweep.
        """
        statement = delete(RunRow).where(
            visible_run(principal),
            RunRow.run_id == run_id,
            text(f"status IN {TERMINAL}"),
        )
        async with self._sessions.begin() as session:
            connection = await session.connection()
            shown = await connection.exec_driver_sql(LOCK_THREADS_OF_RUNS, {"run_ids": [run_id]})
            threads = list(shown.scalars())
            deleted = await session.execute(
                statement.returning(func.coalesce(RunRow.watched_until > func.now(), False))
            )
            watched = deleted.scalar_one_or_none()
            if watched is False:
                await session.execute(delete(RunEventRow).where(RunEventRow.run_id == run_id))
            if threads:
                await connection.exec_driver_sql(FORGET, {"thread_ids": threads})
            return watched is not None

    async def find_checkpoints(
        self, principal: Principal, thread_id: str, ids: Mapping[str, str]
    ) -> FoundCheckpoints:
        """Look for checkpoints, given by namespace, on a thread that the caller may see."""
        values = {
            "thread_id": thread_id,
            **scope_values(principal),
            "namespaces": list(ids),
            "checkpoint_ids": list(ids.values()),
            "root": ids.get(""),
        }
        async with self._sessions.begin() as session:
            missing, at_head = (await session.execute(_FIND_CHECKPOINTS, values)).one()
        return FoundCheckpoints(missing=missing, at_head=at_head)

    async def search(
        self,
        principal: Principal,
        thread_id: str,
        *,
        status: str | None,
        limit: int,
        offset: int,
        max_bytes: int,
        without: Collection[str] = (),
    ) -> RowPage[RunRow]:
        """One page, newest first; a run that was asked to stop counts as ``interrupted``.

        :param without: ``kwargs`` or ``metadata``: do not read it; it is ``{}`` in the rows.
        """
        values = {"thread_id": thread_id, "offset": offset, **scope_values(principal)}
        page = _PAGE
        if status is not None:
            page = _PAGE_INTERRUPTED if status == "interrupted" else _PAGE_OF_STATUS
            values["status"] = status
        async with self._sessions.begin() as session:
            return await read_page(
                session,
                RunRow,
                page,
                _LARGE,
                values,
                limit=limit,
                max_bytes=max_bytes,
                without=without,
            )
