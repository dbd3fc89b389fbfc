"""What is stored about one run, in one snapshot of the database."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from headrace.auth.principal import SYSTEM, Principal
from headrace.auth.row_scope import scope_values, scoped_statements
from headrace.checkpoints.run_checkpoints import RunCheckpoints, read_checkpoints
from headrace.db.faults import translated_faults
from headrace.db.pool import SharedPool


@dataclass(frozen=True, slots=True)
class StoredEvents:
    count: int
    first_at: datetime | None
    last_at: datetime | None
    bytes: int


@dataclass(frozen=True, slots=True)
class RunRecord:
    """
    :ivar row: the columns of the statement ``run``.
    :ivar resumes: the run whose interrupts this run answers.
    :ivar resumed_by: later runs that answer interrupts of this run, and when they were made.
    :ivar ahead: runs that had the thread before it, and when they ended.
    :ivar tokens: calls, then tokens of input, output, cache and reasoning; None if none are stored.
    """

    row: dict[str, Any]
    checkpoints: RunCheckpoints
    events: StoredEvents
    resumes: UUID | None
    resumed_by: Sequence[tuple[UUID, datetime]]
    ahead: Sequence[tuple[UUID, datetime | None]]
    tokens: Sequence[int] | None


def recorded_attempts(row: dict[str, Any]) -> list[dict[str, Any]]:
    """The earlier attempts that the row of a run records, oldest first."""
    return [one for one in row["earlier_attempts"] or () if one["started_at"]]


def attempts_begun(row: dict[str, Any]) -> list[tuple[int, datetime]]:
    """When the attempts of a run began, by number, as far as its row says."""
    begun = {
        one["attempt"]: datetime.fromisoformat(one["started_at"]) for one in recorded_attempts(row)
    }
    if row["attempt"] and row["started_at"]:
        begun[row["attempt"]] = row["started_at"]
    return sorted(begun.items())


async def read_record(
    connection: AsyncConnection[Any],
    run_id: UUID,
    *,
    principal: Principal | None,
    thread_id: str | None,
    limit: int,
    offset: int,
    timeout_seconds: float,
) -> RunRecord | None:
    """The record of a run; None if there is no such run.

    :param principal: who must see the run; None: an operator, who sees all runs.
    :param thread_id: the thread on which it must be; None: any.
    :param limit, offset: of the page of checkpoints; the newest checkpoint has the offset 0.
    :param timeout_seconds: for each statement.
    """
    sql = scoped_statements("headrace.runs", "timeline.sql")
    values: dict[str, Any] = {
        "run_id": run_id,
        "thread_id": thread_id,
        "anybody": principal is None,
        **scope_values(principal or SYSTEM),
        "timeout": f"{int(timeout_seconds * 1000)}ms",
    }

    async def rows(name: str) -> list[tuple[Any, ...]]:
        return await (await connection.execute(sql[name], values)).fetchall()

    async with connection.transaction():
        await connection.execute(sql["begin"])
        await connection.execute(sql["bound"], values)
        async with connection.cursor(row_factory=dict_row) as cursor:
            row = await (await cursor.execute(sql["run"], values)).fetchone()
        if row is None:
            return None
        values |= {"thread_id": row["thread_id"], "created_at": row["created_at"]}
        before = await rows("run_before") if row["goes_on"] else []
        tokens = await rows("tokens")
        return RunRecord(
            row=row,
            checkpoints=await read_checkpoints(
                connection,
                thread_id=row["thread_id"],
                run_id=run_id,
                attempts=attempts_begun(row),
                limit=limit,
                offset=offset,
                only_last=row["durability"] == "exit",
            ),
            events=StoredEvents(*(await rows("events"))[0]),
            resumes=before[0][0] if before else None,
            resumed_by=[(one[0], one[1]) for one in await rows("runs_after")]
            if row["interrupts"]
            else [],
            ahead=[(one[0], one[1]) for one in await rows("runs_ahead")],
            tokens=tokens[0] if tokens else None,
        )


class TimelineRepository:
    """
    :param timeout_seconds: how long Postgres may work on one statement of a timeline.
    """

    def __init__(self, pool: SharedPool, *, timeout_seconds: float) -> None:
        self._pool = pool
        self._timeout_seconds = timeout_seconds

    async def read(
        self, principal: Principal, thread_id: str, run_id: UUID, *, limit: int, offset: int
    ) -> RunRecord | None:
        """The record of a run that the caller may see; None if there is none.

        :raises Unavailable: the database did not answer in time.
        """
        with translated_faults():
            async with self._pool.connection() as connection:
                return await read_record(
                    connection,
                    run_id,
                    principal=principal,
                    thread_id=thread_id,
                    limit=limit,
                    offset=offset,
                    timeout_seconds=self._timeout_seconds,
                )
