"""Sends one batch as one transaction in one round trip, and decides what to do when it fails.

A batch is one call of a function, if it contains only operations of a :class:`CalledKind`.

There are three kinds of failure:

- The server or the network is down. The batch is sent again on a checked connection until
  ``retry_seconds`` are over. So an operation may be done twice.
- A lock is not granted. The batch is cut in two, so that the other half need not wait.
- Any other error is the fault of one row. The batch is cut until that row is alone and fails alone.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from time import monotonic, perf_counter
from typing import Any

import psycopg
import structlog
from psycopg.errors import InvalidSqlStatementName

from headrace.checkpointer_settings import CheckpointerSettings
from headrace.checkpoints.fence import Guard, RunToken
from headrace.checkpoints.flush_call import (
    WRONG_ISOLATION,
    Answer,
    Arguments,
    call_flush,
    fetch_answer,
    flush_alone,
)
from headrace.checkpoints.operations import (
    CalledKind,
    Kind,
    Numbers,
    Operation,
    Outcomes,
    StatementKind,
)
from headrace.checkpoints.stray_sweeper import Strays
from headrace.db.direct_call import blocking_sends
from headrace.db.faults import passes, retry_delay_seconds
from headrace.db.held_connection import HeldConnection
from headrace.db.planner import use_indexes
from headrace.db.pool import WORN_BYTES, Connection
from headrace.error_text import first_line
from headrace.lifecycle import run_in_thread
from headrace.observability.figures import FlushFigures
from headrace.unavailable_errors import DatabaseUnavailable

_log = structlog.stdlib.get_logger("headrace.writer")

_LOCK_NOT_AVAILABLE = "55P03"


OnFlush = Callable[[FlushFigures], None]


class Flusher:
    """Commits batches and settles their operations; shared by all lanes."""

    def __init__(
        self, settings: CheckpointerSettings, strays: Strays, *, on_flush: OnFlush | None = None
    ) -> None:
        self._settings = settings
        self._strays = strays
        self._guard = Guard(
            lock_timeout_seconds=settings.lock_timeout_seconds,
            transaction_timeout_seconds=settings.flush_timeout_seconds,
        )
        self._on_flush = on_flush
        #: Whether each flush must name its isolation level.
        self._names_level = False
        #: Flushes that were committed: traces tell which checkpoints shared one.
        self._flushes = 0

    async def flush(
        self, batch: Sequence[Operation], held: HeldConnection, *, in_thread: bool = False
    ) -> None:
        """Commit ``batch`` in order, whole or in parts. On return, all its operations have settled.

        :param in_thread: talk to the database from a thread, for values that take long to copy.
        """
        parts = _one_run_per_thread(batch)[::-1]
        deadline = monotonic() + self._settings.retry_seconds
        while parts:
            part = [operation for operation in parts.pop() if not _belongs_to_failed_run(operation)]
            if not part:
                continue
            failure = await self._commit(_Try(part, held, in_thread), deadline)
            if failure is None:
                continue
            # If all operations wait for one lock, each part of the batch would wait for it again.
            locked_out = isinstance(failure, DatabaseUnavailable) and monotonic() > deadline
            if len(part) == 1 or locked_out:
                _tell_failed(part, failure)
                for operation in part:
                    operation.settle(failure)
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]

    async def _commit(self, attempt: "_Try", deadline: float) -> BaseException | None:
        """Return None if all operations of the batch have settled, else the error of the batch."""
        batch, tries = attempt.batch, 0
        while True:
            try:
                outcomes = await self._once(attempt)
            except (psycopg.Error, TimeoutError) as error:
                verdict = _verdict(error)
                if verdict is None:
                    self._strays.remember(_threads_of_runs(batch))
                self._report(batch, "retried" if verdict is None else "rejected")
                if isinstance(error, InvalidSqlStatementName):
                    # The server has lost a statement that the driver believes to be prepared.
                    await attempt.held.discard()
                else:
                    await attempt.held.examine()
                if verdict is not None:
                    return verdict
                if monotonic() > deadline:
                    for operation in batch:
                        operation.settle(_unavailable(error))
                    return None
                delay = retry_delay_seconds(tries)
                tries += 1
                _log.warning("flush_retried", operations=len(batch), error=first_line(error))
                await asyncio.sleep(delay)
            except Exception as error:
                # Nothing was sent: Postgres has no form for some value. Cutting the batch finds the
                # operation with that value, as it finds a row that Postgres refuses.
                _log.info("flush_cut", operations=len(batch), exc_info=True)
                self._report(batch, "rejected")
                await attempt.held.examine()
                return error
            else:
                for operation, outcome in zip(batch, outcomes, strict=True):
                    operation.settle(outcome)
                return None

    async def _once(self, attempt: "_Try") -> list[Any]:
        """Send the whole batch in one transaction; returns the outcome of each operation."""
        started = perf_counter()
        await attempt.held.take()
        taken = perf_counter()

        def transact(connection: Connection) -> Coroutine[Any, Any, list[Any]]:
            work = partial(self._transact, attempt, connection)
            return run_in_thread(work) if attempt.in_thread else work()

        outcomes = await attempt.held.use(transact, seconds=self._settings.flush_timeout_seconds)
        self._report(
            attempt.batch,
            "committed",
            queue_seconds=started - min(operation.queued_at for operation in attempt.batch),
            pool_seconds=taken - started,
            database_seconds=perf_counter() - taken,
        )
        self._flushes += 1
        for operation in attempt.batch:
            operation.trace.flushed(self._flushes, len(attempt.batch))
        if sum(operation.size_bytes for operation in attempt.batch) > WORN_BYTES:
            await attempt.held.wear_out()
        return outcomes

    async def _transact(self, attempt: "_Try", connection: Connection) -> list[Any]:
        numbers, endings = Numbers(attempt.batch), _endings(attempt.batch)
        by_kind: dict[Kind, list[Operation]] = defaultdict(list)
        for operation in attempt.batch:
            by_kind[operation.kind].append(operation)
        (only, *others) = by_kind
        if not others and isinstance(only, StatementKind) and only.is_one_statement:
            return list(await (await only.send(connection, attempt.batch))())
        arguments = self._guard.arguments(
            numbers.tokens,
            [endings.get(token, "") for token in numbers.tokens],
            _threads_of_runs(attempt.batch) if attempt.in_thread else (),
        )
        called: list[tuple[CalledKind, list[Operation]]] = []
        sent: list[tuple[StatementKind, list[Operation]]] = []
        # In any other order, the same arguments would be another statement to prepare.
        for kind, operations in sorted(by_kind.items(), key=lambda part: part[0].order):
            if isinstance(kind, CalledKind):
                arguments |= kind.arguments(operations, numbers)
                called.append((kind, operations))
            elif isinstance(kind, StatementKind):
                sent.append((kind, operations))
        # Note the ends before the batch is sent: it may be carried out even if no answer comes.
        _note_ends(attempt.batch)
        with blocking_sends(connection) if attempt.in_thread else nullcontext():
            answer, asked = await self._send(connection, arguments, sent)
        outcomes: dict[Operation, Any] = {}
        for kind, operations in called:
            results = kind.outcomes(operations, numbers, answer)
            outcomes.update(zip(operations, results, strict=True))
        for (_, operations), ask in zip(sent, asked, strict=True):
            outcomes.update(zip(operations, await ask(), strict=True))
        return [outcomes[operation] for operation in attempt.batch]

    async def _send(
        self,
        connection: Connection,
        arguments: Arguments,
        sent: "Sequence[tuple[StatementKind, list[Operation]]]",
    ) -> tuple[Answer, list[Outcomes]]:
        """Call the function, with statements of other kinds in one transaction, if there are any.

        Alone, the call is a transaction of its own, of the isolation level that is the session's
        default. If that is stricter than READ COMMITTED, the function refuses it, and from then on
        each call has a transaction that names its level.
        """
        if not sent and not self._names_level:
            try:
                return await flush_alone(connection, arguments), []
            except psycopg.Error as error:
                if error.sqlstate != WRONG_ISOLATION:
                    raise
                self._names_level = True
        async with connection.pipeline():
            await connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED", prepare=False)
            if sent:
                await use_indexes(connection)
            cursor = await call_flush(connection, arguments)
            asked = [await kind.send(connection, operations) for kind, operations in sent]
            await connection.execute("COMMIT", prepare=False)
        return await fetch_answer(cursor), asked

    def _report(self, batch: Sequence[Operation], outcome: str, **seconds: float) -> None:
        if self._on_flush is not None:
            size = sum(operation.size_bytes for operation in batch)
            self._on_flush(
                FlushFigures(operations=len(batch), bytes=size, outcome=outcome, **seconds)
            )


@dataclass(frozen=True, slots=True)
class _Try:
    """A batch, and how it is sent."""

    batch: Sequence[Operation]
    held: HeldConnection
    in_thread: bool


def _one_run_per_thread(batch: Sequence[Operation]) -> list[list[Operation]]:
    """Cut the batch where another run writes to a thread.

    A flush leaves out rows of a stale run. If the batch were not cut, such a row could first
    replace the row with its key that the present run of the thread has written.
    """
    parts: list[list[Operation]] = [[]]
    writers: dict[str, RunToken | None] = {}
    for operation in batch:
        if operation.has_keys_of_thread:
            token = operation.token
            if writers.setdefault(operation.thread_id, token) != token:
                parts.append([])
                writers = {operation.thread_id: token}
        parts[-1].append(operation)
    return parts


def _threads_of_runs(batch: Sequence[Operation]) -> list[str]:
    """Threads that existed when their runs began."""
    return sorted({operation.thread_id for operation in batch if operation.token is not None})


def _tell_failed(part: Sequence[Operation], failure: BaseException) -> None:
    """Log writes that failed. A run tells of its own writes when it ends."""
    thread_id, operations = part[0].thread_id, len(part)
    if all(operation.run is not None for operation in part):
        _log.info("write_failed", operations=operations, thread_id=thread_id, exc_info=failure)
    else:
        _log.warning("write_failed", operations=operations, thread_id=thread_id, exc_info=failure)


def _belongs_to_failed_run(operation: Operation) -> bool:
    """Settle the operation if an earlier write of its run has failed; return whether it has.

    A chain of checkpoints must have no holes.
    """
    if operation.run is None or operation.run.failure is None:
        return False
    operation.settle(operation.run.failure)
    return True


def _note_ends(batch: Sequence[Operation]) -> None:
    """Note for each operation which end of its run is committed together with it.

    Operations after the end get no note. They may be in another part of the batch: the run may have
    ended without them.
    """
    endings: dict[RunToken, str] = {}
    for operation in reversed(batch):
        if operation.token is not None:
            if operation.ending:
                endings[operation.token] = operation.ending
            operation.sent_end = endings.get(operation.token, operation.sent_end)


def _endings(batch: Sequence[Operation]) -> dict[RunToken, str]:
    """By token: the status that an earlier try, whose answer was lost, may have given the run."""
    return {
        operation.token: operation.sent_end
        for operation in batch
        if operation.sent_end and operation.token is not None
    }


def _verdict(error: Exception) -> BaseException | None:
    """The error, if the batch itself is the cause; None if the batch may succeed later."""
    if passes(error):
        return None
    if isinstance(error, psycopg.Error) and error.sqlstate == _LOCK_NOT_AVAILABLE:
        return _unavailable(error)
    return error


def _unavailable(error: Exception) -> DatabaseUnavailable:
    unavailable = DatabaseUnavailable()
    unavailable.__cause__ = error
    return unavailable
