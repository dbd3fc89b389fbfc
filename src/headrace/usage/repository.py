"""The SQL of the table ``run_usage``: what was used, and what is too old."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from headrace.checkpoints.retry import READ_SECONDS, retried
from headrace.checkpoints.tally import ModelUsage, Tokens, UsageTally
from headrace.database_settings import DatabaseSettings
from headrace.db import schema
from headrace.db.batches import delete_in_batches
from headrace.db.faults import translated_faults
from headrace.db.planner import indexed_rows
from headrace.db.pool import Connection, SharedPool
from headrace.db.statements import named_statements

#: What a report may group by.
By = Literal["assistant", "thread", "owner", "graph", "model", "day", "run"]

#: A report reads all rows of its time.
_REPORT_SECONDS = 120.0

#: Rows that one statement deletes.
_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Spent:
    """Input and output tokens that were used before an attempt began."""

    run: int
    thread: int
    owner_day: int


@dataclass(frozen=True, slots=True)
class ReportQuestion:
    """:ivar since: the first moment of the report; ``until`` the first moment after it."""

    by: By
    since: datetime | None
    until: datetime | None
    tenant: str | None
    limit: int


@dataclass(frozen=True, slots=True)
class ReportRow:
    """:ivar name: of an assistant that exists."""

    key: str
    name: str | None
    used: ModelUsage


@dataclass(frozen=True, slots=True)
class UsageReport:
    """``groups`` is the number of rows without the limit, ``total`` the sum of all these."""

    rows: list[ReportRow]
    groups: int
    total: ModelUsage


class UsageRepository:
    """One per process."""

    def __init__(self, pool: SharedPool) -> None:
        self._pool = pool
        self._sql = _statements()

    async def spent_before(
        self,
        tally: UsageTally,
        *,
        tenant: str,
        owner: str,
        run: bool,
        thread: bool,
        owner_day: bool,
    ) -> Spent:
        """What earlier attempts of the run, its thread, and its owner today, have used.

        A flag says whether the figure is wanted; the others are 0.

        :raises DatabaseUnavailable: the database could not be reached for too long.
        """
        values = {
            "run_id": tally.token.run_id,
            "attempt": tally.token.attempt,
            "thread_id": tally.thread_id,
            "tenant": tenant,
            "owner": owner,
            "run": run,
            "thread": thread,
            "owner_day": owner_day,
        }

        async def read() -> Spent:
            (row,) = await indexed_rows(self._pool, self._sql["spent_before"], values)
            return Spent(*row)

        with translated_faults():
            return await retried(read, seconds=READ_SECONDS, operation="spent_before")

    async def delete_expired(self, keep_seconds: float) -> int:
        """Delete all rows whose time is over, in batches; returns how many.

        :raises Unavailable: the database could not be reached. Finished batches stay deleted.
        """
        values = {"keep_seconds": keep_seconds}
        return await delete_in_batches(
            self._pool, self._sql["delete_expired"], values, limit=_BATCH
        )


def read_report(settings: DatabaseSettings, question: ReportQuestion) -> UsageReport:
    """The report, read over a new connection. For commands: it starts an event loop.

    :raises StartupRefusal: HR301 the database cannot be reached, or does not answer in time; HR303
        there is no URL; HR304 libpq cannot read it; HR311 the schema is behind; HR312 it is too
        new; HR318 the role may not use it.
    """
    values = {
        "by": question.by,
        "since": question.since,
        "until": question.until,
        "tenant": question.tenant,
        "limit": question.limit,
    }

    async def read(connection: Connection) -> UsageReport:
        cursor = await connection.execute(_statements()["report"], values)
        return _report(await cursor.fetchall())

    return schema.ask(settings, read, timeout_seconds=_REPORT_SECONDS)


def _report(found: list[tuple[Any, ...]]) -> UsageReport:
    if not found:
        return UsageReport([], 0, ModelUsage())
    rows = [ReportRow(key, name, _used(used)) for key, name, *used in (row[:7] for row in found)]
    return UsageReport(rows, found[0][7], _used(found[0][8:13]))


def _used(figures: Sequence[int]) -> ModelUsage:
    calls, *tokens = figures
    return ModelUsage(calls, Tokens(*tokens))


def _statements() -> Mapping[str, bytes]:
    return named_statements("headrace.usage", "usage.sql")
