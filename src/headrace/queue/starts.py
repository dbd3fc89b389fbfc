"""Run starts and new pending runs, as operations of the group-commit writer.

They come last in a flush. They never wait for the lock of an existing thread: they skip a thread
that another transaction has locked.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from psycopg import AsyncCursor
from psycopg.types.json import Jsonb as JsonValue

from headrace.checkpoints.flush_call import Answer, Arguments, answer_of_text
from headrace.checkpoints.operations import (
    CalledKind,
    Numbers,
    Operation,
    Outcomes,
    StatementKind,
)
from headrace.db.arrays import BigInteger, Boolean, Column, Jsonb, Text, Uuid
from headrace.db.jsonb import dump_jsonb, load_jsonb
from headrace.db.pool import Connection
from headrace.errors import (
    AssistantChanged,
    RunForgotten,
    SlotTaken,
    ThreadBusy,
)
from headrace.events.event import stop_error
from headrace.queue.ends import queue_statements
from headrace.queue.rows import Attempt, QueuedRun, RunRequest, StopAction
from headrace.queue.scope_check import (
    ScopeCheck,
    ThreadLocked,
    makes_thread_first,
    metadata_of_new,
    no_thread,
    takes_strays,
)
from headrace.queue.slots import Slots
from headrace.tracing.trace_context import TraceContext

_REPLACED = JsonValue(stop_error("Another run was started on the thread."))


#: Stands for the process of a run that no process executes yet.
NOBODY = UUID(int=0)


class Start(Operation):
    """Take the thread and insert its run, running. The result is an :class:`Attempt`."""

    __slots__ = ("kwargs", "metadata", "process_id", "request", "thread_config")

    def __init__(self, request: RunRequest, process_id: UUID) -> None:
        self.request = request
        self.process_id = process_id
        self.metadata = dump_jsonb(request.metadata)
        self.kwargs = dump_jsonb(request.kwargs)
        self.thread_config = dump_jsonb(request.thread_config)
        super().__init__(request.thread_id, None, size_bytes=len(self.kwargs))


class CheckedStart(Start):
    """As :class:`Start`, for a request with an idempotency key, of a caller that does not see all
    threads of its tenant, or whose new thread may not take checkpoints without a thread.
    """

    __slots__ = ()


class Enqueue(Start):
    """Insert the run, pending, and apply its strategy to the runs before it.

    The result is a :class:`QueuedRun`.
    """

    __slots__ = ()

    def __init__(self, request: RunRequest) -> None:
        super().__init__(request, NOBODY)


class RequestKeys:
    """The idempotency keys of some requests. Without any key, no statement is sent."""

    def __init__(self, sql: Mapping[str, bytes], requests: Sequence[RunRequest]) -> None:
        keyed = [(request, request.key) for request in requests if request.key]
        self._sql = sql
        self._found: AsyncCursor[tuple[Any, ...]] | None = None
        self.present = bool(keyed)
        self._values: dict[str, Column] = {
            "key_tenants": Text([request.principal.tenant.encode() for request, _ in keyed]),
            "key_routes": Text(
                [key.route_of(request.principal).encode() for request, key in keyed]
            ),
            "keys": Text([key.key.encode() for _, key in keyed]),
            "key_run_ids": Uuid([request.run_id for request, _ in keyed]),
        }

    @classmethod
    async def lock(
        cls, connection: Connection, requests: Sequence[RunRequest], sql: Mapping[str, bytes]
    ) -> "RequestKeys":
        """Lock the keys. Do this before the requests' threads are locked, because it may wait."""
        keys = cls(sql, requests)
        if keys.present:
            keys._found = await connection.execute(sql["lock_keys"], keys._values)
        return keys

    async def confirm(self, connection: Connection) -> None:
        """Confirm the keys in the transaction that makes the runs: repeated requests find them."""
        if self.present:
            await connection.execute(self._sql["confirm_keys"], self._values)

    async def spent(self) -> frozenset[UUID]:
        """The runs that were not made: an earlier request has made them, and they are gone."""
        row = await self._found.fetchone() if self._found is not None else None
        return frozenset(map(UUID, orjson.loads(row[0]))) if row else frozenset()


class _StartKind(CalledKind):
    order = 5

    def arguments(self, operations: Sequence[Start], numbers: Numbers) -> Arguments:
        return _start_arguments(operations)

    def outcomes(
        self, operations: Sequence[Start], numbers: Numbers, answer: Answer
    ) -> Sequence[Any]:
        return [
            _start_outcome(item, *row) for item, row in zip(operations, answer.starts, strict=True)
        ]


class _CheckedStartKind(StatementKind):
    order = 6

    def __init__(self) -> None:
        self._sql = queue_statements()

    async def send(self, connection: Connection, operations: Sequence[CheckedStart]) -> Outcomes:
        requests = [one.request for one in operations]
        keys = await RequestKeys.lock(connection, requests, self._sql)
        creates = [item for item in operations if item.request.create_thread]
        # Their threads are made first: they have metadata of their own, or a thread that another
        # caller makes meanwhile must not be taken.
        if absent := [item for item in creates if makes_thread_first(item.request)]:
            await connection.execute(
                self._sql["create_threads_if_absent"], _absent(absent), prepare=True
            )
        scope = await ScopeCheck.lock(connection, requests, self._sql)
        left = {item for item in creates if not makes_thread_first(item.request)}
        wanted = {
            **_start_arguments(operations),
            "start_creates": Boolean([item in left for item in operations]),
            "start_takes_strays": Boolean([takes_strays(one) for one in requests]),
        }
        found = await connection.execute(self._sql["start_keyed_runs"], wanted, prepare=True)
        await keys.confirm(connection)

        async def outcomes() -> list[Any]:
            spent, unseen = await keys.spent(), await scope.unseen()
            row = await found.fetchone()
            starts = answer_of_text(None if row is None else row[0]).starts
            return [
                RunForgotten()
                if item.request.run_id in spent
                else unseen.get(item.request.run_id) or _start_outcome(item, *start)
                for item, start in zip(operations, starts, strict=True)
            ]

        return outcomes


class _EnqueueKind(StatementKind):
    order = 7

    def __init__(self) -> None:
        self._sql = queue_statements()

    async def send(self, connection: Connection, operations: Sequence[Enqueue]) -> Outcomes:
        # Keys and crons before threads: the lock order of queue.sql.
        requests = [one.request for one in operations]
        keys = await RequestKeys.lock(connection, requests, self._sql)
        slots = await Slots.lock(connection, requests, self._sql)
        absent = [item for item in operations if item.request.create_thread]
        if absent:
            await connection.execute(
                self._sql["create_threads_if_absent"], _absent(absent), prepare=True
            )
        scope = await ScopeCheck.lock(connection, requests, self._sql)
        checked = keys.present or slots.present or scope.present
        wanted = {**_threads(operations), **_runs(operations)}
        await connection.execute(self._sql["lock_threads_to_queue_on"], wanted, prepare=True)
        cancelled = [await self._queue(connection, item, checked) for item in operations]
        await keys.confirm(connection)
        await slots.move(connection)
        await connection.execute(self._sql["refresh_locked_threads"], prepare=False)
        found = await connection.execute(self._sql["queued_runs"], wanted, prepare=True)

        async def outcomes() -> list[Any]:
            states = [await _states_of(one) for one in cancelled]
            spent, taken = await keys.spent(), await slots.taken()
            unseen = await scope.unseen()
            rows = await found.fetchall()
            return [
                RunForgotten()
                if item.request.run_id in spent
                else unseen.get(item.request.run_id)
                or _queue_outcome(item, earlier, item.request.run_id in taken, *row)
                for item, earlier, row in zip(operations, states, rows, strict=True)
            ]

        return outcomes

    async def _queue(
        self, connection: Connection, item: Enqueue, checked: bool
    ) -> AsyncCursor[tuple[Any, ...]] | None:
        """Stop the earlier runs of the thread if the strategy says so. Then insert the run.

        :param checked: the transaction knows runs that must not be made.
        """
        request, cancelled = item.request, None
        if request.multitask_strategy in ("interrupt", "rollback"):
            await connection.execute(
                self._sql["remember_unfinished_runs_of_thread"],
                {
                    "thread_id": request.thread_id,
                    "run_id": request.run_id,
                    "checked": checked,
                    "assistant_id": request.assistant_id,
                    "assistant_updated_at": request.assistant_updated_at,
                },
            )
            cancelled = await connection.execute(
                self._sql["cancel_remembered_runs"],
                {
                    "action": request.multitask_strategy,
                    "error": _REPLACED,
                    "reason": "next_run",
                    "note": None,
                },
            )
        after_milliseconds = BigInteger([int(request.after_seconds * 1000)])
        await connection.execute(
            self._sql["queue_runs_on_locked_threads"],
            {
                **_threads([item]),
                **_runs([item]),
                "after_milliseconds": after_milliseconds,
                "checked": checked,
            },
            prepare=True,
        )
        return cancelled


async def _states_of(cancelled: AsyncCursor[tuple[Any, ...]] | None) -> dict[UUID, str]:
    """What became of the runs that were cancelled."""
    rows = await cancelled.fetchall() if cancelled is not None else ()
    return {run_id: state for run_id, _, state in rows}


def _queue_outcome(
    queued: Enqueue,
    earlier: Mapping[UUID, str],
    taken: bool,
    there: bool,
    busy: bool,
    changed: bool,
    metadata: dict[str, Any] | None,
    _created_at: datetime,
    replaced: UUID | None,
    action: StopAction | None,
) -> QueuedRun | Exception:
    request = queued.request
    if metadata is not None:
        ended = tuple(run_id for run_id, state in earlier.items() if state != "asked")
        removed = tuple(run_id for run_id in ended if earlier[run_id] == "removed")
        return QueuedRun(replaced, action, ended, removed)
    if taken:
        return SlotTaken()
    if changed:
        return AssistantChanged()
    if busy and request.multitask_strategy == "reject":
        return ThreadBusy()
    if there:
        return ThreadLocked()
    return no_thread(request.thread_id)


def _start_outcome(
    start: Start,
    there: bool,
    busy: bool,
    changed: bool,
    attempt: int | None,
    metadata: str,
    watched: bool,
    fresh: bool,
) -> Attempt | Exception:
    if attempt is not None:
        return Attempt(
            start.request,
            start.process_id,
            attempt,
            load_jsonb(metadata),
            watched=watched,
            fresh_thread=fresh,
        )
    if changed:
        return AssistantChanged()
    if busy:
        return ThreadBusy()
    if there:
        return ThreadLocked()
    return no_thread(start.thread_id)


def _threads(starts: Sequence[Start]) -> dict[str, Column]:
    requests = [start.request for start in starts]
    return {
        "thread_ids": Text([item.thread_id.encode() for item in requests]),
        "tenants": Text([item.principal.tenant.encode() for item in requests]),
        "owners": Text([item.principal.identity.encode() for item in requests]),
        "temporary": Boolean([item.temporary_thread for item in requests]),
    }


def _start_arguments(starts: Sequence[Start]) -> dict[str, Column]:
    """The arguments of the flush that start runs."""
    return {
        **{
            f"start_{name}": column
            for name, column in {**_threads(starts), **_runs(starts)}.items()
        },
        "start_creates": Boolean([item.request.create_thread for item in starts]),
        "start_process_ids": Uuid([item.process_id for item in starts]),
    }


def _absent(starts: Sequence[Start]) -> dict[str, Column]:
    requests = [start.request for start in starts]
    return {
        **_threads(starts),
        "graph_ids": Text([item.graph_id.encode() for item in requests]),
        "assistant_ids": Uuid([item.assistant_id for item in requests]),
        "metadata": metadata_of_new(requests),
        "takes_strays": Boolean([takes_strays(one) for one in requests]),
    }


def _runs(starts: Sequence[Start]) -> dict[str, Column]:
    requests = [start.request for start in starts]
    return {
        "run_ids": Uuid([item.run_id for item in requests]),
        "assistant_ids": Uuid([item.assistant_id for item in requests]),
        "assistants_updated_at": Text([_time(item.assistant_updated_at) for item in requests]),
        "graph_ids": Text([item.graph_id.encode() for item in requests]),
        "multitask_strategies": Text([item.multitask_strategy.encode() for item in requests]),
        "metadata": Jsonb([item.metadata for item in starts]),
        "kwargs": Jsonb([item.kwargs for item in starts]),
        "thread_configs": Jsonb([item.thread_config for item in starts]),
        "request_ids": Text([item.request_id.encode() or None for item in requests]),
        "callers": Text([item.principal.caller.encode() for item in requests]),
        "traceparents": Text([_context(item.trace) for item in requests]),
    }


def _time(value: datetime | None) -> bytes | None:
    return None if value is None else value.isoformat().encode()


def _context(value: TraceContext | None) -> bytes | None:
    return None if value is None else value.text.encode()


Start.kind = _StartKind()
CheckedStart.kind = _CheckedStartKind()
Enqueue.kind = _EnqueueKind()
