"""One batch, one transaction, in one round trip; and what is done when it fails.

Three classes of failure. The server or the way to it is unwell: the same batch again, on a
connection that was checked, until ``retry_seconds`` are over; every operation stands a second time.
A lock does not come: the batch is cut, so that its other half need not wait. Anything else is
somebody's row: the batch is cut until that row stands alone and fails alone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic, perf_counter
from typing import Any

import psycopg
import structlog

from headrace.checkpoints.fence import Guard, RunToken
from headrace.checkpoints.operations import Kind, Numbers, Operation, Outcomes
from headrace.db.pool import Connection, Loan
from headrace.errors import DatabaseUnavailable
from headrace.settings import CheckpointerSettings

_log = structlog.stdlib.get_logger("headrace.writer")

#: SQLSTATE classes after which the same batch may well succeed: connection, rollback
#: (serialization, deadlock), resources, operator intervention, system.
_PASSING_CLASSES = frozenset({"08", "40", "53", "57", "58"})
#: A server that was demoted since the connection was made, and limits on idle and on long
#: transactions, which say nothing about the rows.
_PASSING_STATES = frozenset({"25006", "25P03", "25P04"})
_LOCK_NOT_AVAILABLE = "55P03"

_RETRY_DELAYS_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0)


@dataclass(frozen=True, slots=True)
class FlushFigures:
    """What one try of a flush took."""

    operations: int
    bytes: int
    #: Of the operation that waited longest.
    queue_seconds: float
    pool_seconds: float
    database_seconds: float
    #: ``committed``, ``retried``, or ``rejected`` when a part of it has to fail.
    outcome: str


OnFlush = Callable[[FlushFigures], None]


class Flusher:
    """Commits batches and settles their operations; shared by all lanes."""

    def __init__(self, settings: CheckpointerSettings, *, on_flush: OnFlush | None = None) -> None:
        self._settings = settings
        self._guard = Guard(
            lock_timeout_seconds=settings.lock_timeout_seconds,
            transaction_timeout_seconds=settings.flush_timeout_seconds,
        )
        self._on_flush = on_flush

    async def flush(self, batch: Sequence[Operation], loan: Loan) -> None:
        """Commit ``batch`` in order, whole or in parts; every operation of it has settled then."""
        parts = [list(batch)]
        deadline = monotonic() + self._settings.retry_seconds
        while parts:
            part = [operation for operation in parts.pop() if not _of_failed_run(operation)]
            if not part:
                continue
            failure = await self._commit(part, loan, deadline)
            if failure is None:
                continue
            # A lock that everything here waits for would be waited for again by each part of it.
            locked_out = isinstance(failure, DatabaseUnavailable) and monotonic() > deadline
            if len(part) == 1 or locked_out:
                _log.warning(
                    "write_failed",
                    operations=len(part),
                    thread_id=part[0].thread_id,
                    exc_info=failure,
                )
                for operation in part:
                    operation.settle(failure)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]

    async def _commit(
        self, batch: Sequence[Operation], loan: Loan, deadline: float
    ) -> BaseException | None:
        """None when all of it has settled, else what stands against the batch as a whole."""
        tries = 0
        while True:
            try:
                outcomes = await self._try(batch, loan)
            except (psycopg.Error, TimeoutError) as error:
                verdict = _verdict(error)
                self._note(batch, "retried" if verdict is None else "rejected")
                await loan.examine()
                if verdict is not None:
                    return verdict
                if monotonic() > deadline:
                    for operation in batch:
                        operation.settle(_unavailable(error))
                    return None
                delay = _RETRY_DELAYS_SECONDS[min(tries, len(_RETRY_DELAYS_SECONDS) - 1)]
                tries += 1
                _log.warning("flush_retried", operations=len(batch), error=_first_line(error))
                await asyncio.sleep(delay)
            else:
                for operation, outcome in zip(batch, outcomes, strict=True):
                    operation.settle(outcome)
                return None

    async def _try(self, batch: Sequence[Operation], loan: Loan) -> list[Any]:
        """One transaction with the whole batch; the outcome of each operation."""
        started = perf_counter()
        queue_seconds = started - min(operation.queued_at for operation in batch)
        await loan.take()
        taken = perf_counter()
        outcomes = await loan.use(
            lambda connection: self._transaction(connection, batch),
            seconds=self._settings.flush_timeout_seconds,
        )
        self._report(
            batch,
            "committed",
            queue_seconds=queue_seconds,
            pool_seconds=taken - started,
            database_seconds=perf_counter() - taken,
        )
        return [outcomes[operation] for operation in batch]

    async def _transaction(
        self, connection: Connection, batch: Sequence[Operation]
    ) -> dict[Operation, Any]:
        numbers = Numbers(batch)
        endings = _endings(batch)
        by_kind: dict[Kind, list[Operation]] = defaultdict(list)
        for operation in batch:
            by_kind[operation.kind].append(operation)
        async with connection.pipeline():
            # Another default isolation would act on a snapshot from before the lock.
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED", prepare=False)
            await self._guard.send(
                connection, numbers.tokens, [endings.get(token, "") for token in numbers.tokens]
            )
            pending: list[tuple[list[Operation], Outcomes]] = [
                (by_kind[kind], await kind.send(connection, by_kind[kind], numbers))
                for kind in sorted(by_kind, key=lambda kind: kind.order)
            ]
            # Before it can leave, or it could be carried out and nobody had expected that.
            _note_ends(batch)
            await connection.execute("COMMIT", prepare=False)
        outcomes: dict[Operation, Any] = {}
        for operations, ask in pending:
            outcomes.update(zip(operations, await ask(), strict=True))
        return outcomes

    def _note(self, batch: Sequence[Operation], outcome: str) -> None:
        self._report(batch, outcome, queue_seconds=0, pool_seconds=0, database_seconds=0)

    def _report(self, batch: Sequence[Operation], outcome: str, **seconds: float) -> None:
        if self._on_flush is not None:
            size = sum(operation.size_bytes for operation in batch)
            self._on_flush(
                FlushFigures(operations=len(batch), bytes=size, outcome=outcome, **seconds)
            )


def _of_failed_run(operation: Operation) -> bool:
    """Settle what follows a failed write of its run: a chain has no holes."""
    if operation.run is None or operation.run.failure is None:
        return False
    operation.settle(operation.run.failure)
    return True


def _note_ends(batch: Sequence[Operation]) -> None:
    """Tell what is committed with the end of its run, or not at all.

    Not what comes after the end: in a part of its own it could be missing although the run ended.
    """
    endings: dict[RunToken, str] = {}
    for operation in reversed(batch):
        if operation.token is not None:
            if operation.ending:
                endings[operation.token] = operation.ending
            operation.sent_end = endings.get(operation.token, operation.sent_end)


def _endings(batch: Sequence[Operation]) -> dict[RunToken, str]:
    """By token: the status that an unanswered try may have given the run already."""
    return {
        operation.token: operation.sent_end
        for operation in batch
        if operation.sent_end and operation.token is not None
    }


def _verdict(error: Exception) -> BaseException | None:
    """What is wrong with the batch itself; None when the same batch may succeed."""
    if isinstance(error, psycopg.Error) and error.sqlstate is not None:
        if error.sqlstate in _PASSING_STATES or error.sqlstate[:2] in _PASSING_CLASSES:
            return None
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            return _unavailable(error)
        return error
    # Without an SQLSTATE it comes from the client: a connection, the pool, or a bound on time.
    passing = (psycopg.OperationalError, psycopg.InterfaceError, TimeoutError)
    return None if isinstance(error, passing) else error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    unavailable = DatabaseUnavailable()
    unavailable.__cause__ = error
    return unavailable


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
