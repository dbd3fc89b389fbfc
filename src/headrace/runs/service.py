"""Rules of runs: creating, following, reading, stopping and deleting them."""

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from functools import partial
from types import MappingProxyType
from typing import Any
from uuid import UUID

from headrace.assistants.service import AssistantService
from headrace.auth.principal import Principal, of_tenant
from headrace.checkpoints.answer_memory import Reading
from headrace.checkpoints.row_pages import rows_within
from headrace.db.repeats import repeated
from headrace.db.row_sizes import RowPage
from headrace.db.tables import RunRow
from headrace.errors import (
    AssistantChanged,
    InvalidRequest,
    ResumeRefused,
    RunForgotten,
    RunNotFound,
    ThreadNotFound,
)
from headrace.events.reader import FollowingStopped
from headrace.following.followed_run import FollowedRun
from headrace.following.following import Following
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.ids import canonical_uuid, uuid7
from headrace.lifecycle import Tasks
from headrace.queue.rows import CancelAction, CronSlot, QueuedRun, RunRequest
from headrace.runs.repository import RunRepository
from headrace.runs.run_requests import RunRequests
from headrace.runs.run_traces import RunTraces
from headrace.runs.schemas import RunCreate, RunsCancel, shown_status
from headrace.threads.run_stops import RunStops
from headrace.threads.service import ThreadService
from headrace.tracing.tracer import NO_REQUEST_TRACE, RequestTrace
from headrace.unavailable_errors import Draining, RunStillStopping
from headrace.worker.worker import Worker

#: The first try takes the assistant from the cache, the others reload it.
_ASSISTANT_TRIES = 5
_ENDED = ("success", "error", "timeout", "interrupted")


class RunService:
    def __init__(
        self,
        repository: RunRepository,
        assistants: AssistantService,
        threads: ThreadService,
        worker: Worker,
        following: Following,
        stops: RunStops,
        keys: IdempotencyService,
        requests: RunRequests,
        traces: RunTraces,
        tasks: Tasks,
        *,
        away_timeout_seconds: float,
    ) -> None:
        self._repository = repository
        self._assistants = assistants
        self._threads = threads
        self._worker = worker
        self._following = following
        self._stops = stops
        self._keys = keys
        self._requests = requests
        self._traces = traces
        self._tasks = tasks
        #: Reads before and after a run is made, or before it is stopped, are repeated for so long
        #: while the database is away: who is told of a fault would make the run a second time.
        self._patiently = partial(repeated, seconds=away_timeout_seconds)

    async def create(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        *,
        request_id: str,
        trace: RequestTrace = NO_REQUEST_TRACE,
        any_thread_id: bool = False,
        background: bool = False,
        key: RequestKey | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
        slot: CronSlot | None = None,
    ) -> FollowedRun:
        """Start a run here, or queue it. A run without a thread gets a new thread.

        :param trace: the trace of the request.
        :param any_thread_id: the run may create a thread whose id is no UUID.
        :param background: no client follows the run from the start.
        :param key: a retry with this key gets the run that the first try has made.
        :param headers: headers of the request; the graph finds them in ``configurable``.
        :param slot: of the cron that makes the run. The run is queued.
        :raises SlotTaken: the slot has its run, or its cron is locked or changed: nothing was made.
        :raises BadRequest, InvalidRequest, NotFound, Conflict, TooManyQueuedRuns: nothing was
            started.
        :raises Unavailable: perhaps the run was made; if so, it is executed. A retry with the key
            makes no second run.
        """
        if thread_id is not None:
            thread_id = await self._patiently(
                partial(self._threads.stored_id, principal, thread_id)
            )
        make = partial(
            self._make,
            principal,
            thread_id,
            body,
            request_id=request_id,
            trace=trace,
            any_thread_id=any_thread_id,
            background=background,
            key=key,
            headers=headers,
            slot=slot,
        )
        if key is None:
            return await make(uuid7())
        async with self._reserved(principal, key) as (run_id, made):
            if made is not None:
                return made
            try:
                return await make(run_id)
            except ResumeRefused:
                # An earlier try with this key may have made the run meanwhile, and its answers are
                # what does not wait any more.
                if (row := await self._find_own(principal, run_id)) is None:
                    raise
                return self._follow(row, created=True, repeated=True)

    def waits_for_place(self, principal: Principal) -> bool:
        """Whether a run that a client follows would wait here for a place, before it is created."""
        return self._worker.waits_for_place(principal.caller)

    async def _make(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        run_id: UUID,
        *,
        trace: RequestTrace,
        **more: Any,
    ) -> FollowedRun:
        context = await self._patiently(
            partial(self._traces.context, principal, thread_id, body, trace)
        )
        user = await self._assistants.user(principal, body.assistant_id)
        for tries_left in reversed(range(_ASSISTANT_TRIES)):
            assistant = await self._patiently(
                partial(
                    self._assistants.get_for_run,
                    user,
                    body.assistant_id,
                    reload=tries_left < _ASSISTANT_TRIES - 1,
                )
            )
            request = await self._requests.complete(
                principal, thread_id, body, assistant, run_id, trace=context, **more
            )
            try:
                return await self._submit(request)
            except AssistantChanged:
                # The cached assistant is out of date: reload it and retry.
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    @asynccontextmanager
    async def _reserved(
        self, principal: Principal, key: RequestKey
    ) -> AsyncIterator[tuple[UUID, FollowedRun | None]]:
        """The id of the run to make, and the run itself if an earlier try has made it.

        :raises RunForgotten: an earlier try has made the run, and the run is deleted.
        """
        reserved = await self._keys.reserve(principal, key)
        run_id = reserved.resource_id
        if reserved.made:
            row = await self._find_own(principal, run_id)
            if row is None:
                raise RunForgotten
            yield run_id, self._follow(row, created=True, repeated=True)
            return
        async with self._keys.making(principal, key):
            row = await self._find_own(principal, run_id) if reserved.resumed else None
            if row is None:
                yield run_id, None
                return
            # An older release of headrace made the run: it confirms a key only after that commit.
            await self._keys.confirm(principal, key, row.thread_id)
            yield run_id, self._follow(row, created=True)

    async def _submit(self, request: RunRequest) -> FollowedRun:
        try:
            run = await self._worker.submit(request)
        except ThreadNotFound:
            if request.create_thread:
                await self._threads.refuse_strays(request.principal, request.thread_id)
            raise
        if isinstance(run, QueuedRun):
            return self._follow(request, created=True, queued=True)
        return FollowedRun.of(self._following, request, local=run, created=True)

    async def follow(
        self, principal: Principal, thread_id: str | None, run_id: UUID
    ) -> FollowedRun:
        """Follow a run, in whichever process it is executed.

        :param thread_id: its thread; None: the caller knows only the run's id.
        :raises RunNotFound: the caller may see no such run.
        """
        return self._follow(await self._row(principal, thread_id, run_id))

    def _follow(
        self,
        run: RunRow | RunRequest,
        *,
        created: bool = False,
        queued: bool = False,
        repeated: bool = False,
    ) -> FollowedRun:
        return FollowedRun.of(
            self._following,
            run,
            local=self._worker.execution_of(run.run_id),
            created=created,
            queued=queued,
            repeated=repeated,
        )

    async def get(self, principal: Principal, thread_id: str | None, run_id: UUID) -> RunRow:
        """:raises RunNotFound: the caller may see no such run, or it is being rolled back."""
        row = await self._row(principal, thread_id, run_id)
        if shown_status(row) is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return row

    async def _row(self, principal: Principal, thread_id: str | None, run_id: UUID) -> RunRow:
        if thread_id is None:
            row = await self._find(principal, run_id)
        else:
            row = await self._patiently(partial(self._repository.get, principal, thread_id, run_id))
        if row is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return row

    async def _find(self, principal: Principal, run_id: UUID) -> RunRow | None:
        return await self._patiently(partial(self._repository.find, principal, run_id))

    async def _find_own(self, principal: Principal, run_id: UUID) -> RunRow | None:
        """A run that the caller has made with an earlier try of its request; None if it is gone.

        :raises RequestError: the caller may not make it any more.
        """
        row = await self._find(principal, run_id)
        if row is None:
            return None
        allowed = await self._requests.may_repeat(principal, row)
        if allowed.filter and await self._find(allowed, run_id) is None:
            raise ThreadNotFound(f"Thread with ID {row.thread_id} not found")
        return row

    async def see_thread(self, principal: Principal, thread_id: str) -> None:
        """:raises ThreadNotFound: the caller may see no such thread."""
        await self._threads.get(principal, thread_id)

    async def search(
        self,
        principal: Principal,
        thread_id: str,
        *,
        status: str | None,
        limit: int,
        offset: int,
        reading: Reading,
        without: Collection[str] = (),
    ) -> RowPage[RunRow]:
        """Runs of a thread, newest first.

        :param without: ``kwargs`` or ``metadata``: do not read it; it is ``{}`` in the rows.
        :raises ThreadNotFound: the caller may see no such thread.
        :raises AnswersFull: as :func:`rows_within`.
        """
        await self._threads.get(principal, thread_id)

        async def read(max_bytes: int) -> RowPage[RunRow]:
            return await self._repository.search(
                principal,
                thread_id,
                status=status,
                limit=limit,
                offset=offset,
                max_bytes=max_bytes,
                without=without,
            )

        return await rows_within(reading, read)

    def reading(self) -> Reading:
        """Begin an answer with runs. The caller releases its memory."""
        return self._following.memory.reading()

    async def cancel(
        self,
        principal: Principal,
        thread_id: str,
        run_id: UUID,
        action: CancelAction,
        note: str | None = None,
    ) -> FollowedRun:
        """Ask a run to stop. Wait for the outcome of the returned run to know that it has stopped.

        :param note: why, in the caller's own words.
        :raises RunNotFound: the caller may see no such run, or it has ended.
        """
        row = await self._patiently(lambda: self._repository.get(principal, thread_id, run_id))
        if row is None or row.status in _ENDED:
            raise RunNotFound(
                "No matching runs to cancel. Please verify the thread ID and run ID are correct,"
                " and the run hasn't been deleted or completed."
            )
        return await self._stops.cancel(principal, row, action, note)

    def cancel_soon(self, run: FollowedRun, message: str) -> None:
        """Ask a run to stop because its client has left. Any process may execute the run.

        Returns at once.
        """
        if run.local is not None:
            self._worker.cancel_here(run.run_id, message, "disconnect")
        else:
            self._tasks.start(
                self._worker.cancel(
                    of_tenant(run.tenant), [run.run_id], "interrupt", message, "disconnect"
                ),
                name=f"cancel-{run.run_id}",
            )

    async def cancel_many(
        self,
        principal: Principal,
        which: RunsCancel,
        action: CancelAction,
        note: str | None = None,
    ) -> None:
        """Ask several runs to stop.

        :param note: why, in the caller's own words.
        :raises RunNotFound: all of them have ended, or were asked to stop before.
        """
        thread_id = which.thread_id
        if thread_id is not None:
            stored_id = partial(self._threads.stored_id, principal, thread_id)
            thread_id = await self._patiently(stored_id)
        statuses = ("pending", "running") if which.status in (None, "all") else (which.status,)
        if not await self._stops.cancel_many(
            principal,
            action,
            note,
            thread_id=thread_id,
            run_ids=which.run_ids,
            statuses=[status for status in statuses if status is not None],
        ):
            raise RunNotFound("No runs found to cancel.")

    async def delete(
        self, principal: Principal, thread_id: str, run_id: UUID, *, timeout_seconds: float
    ) -> None:
        """Delete a run; one that has not ended is stopped first.

        :raises RunNotFound: the caller may see no such run.
        :raises RunStillStopping: the run does not stop in time.
        :raises Draining: this process ends before the run has stopped; the run is stopping.
        """
        row = await self._row(principal, thread_id, run_id)
        try:
            stopped = row.status in _ENDED or await self._stops.stop(
                principal, row, timeout_seconds
            )
        except FollowingStopped:
            raise Draining from None
        if not stopped:
            raise RunStillStopping
        await self._repository.delete_if_ended(principal, run_id)


def run_id_from(value: str) -> UUID:
    """:raises InvalidRequest: not a UUID."""
    canonical = canonical_uuid(value)
    if canonical is None:
        raise InvalidRequest("Invalid run ID: must be a UUID")
    return UUID(canonical)
