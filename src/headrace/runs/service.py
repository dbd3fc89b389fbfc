"""Rules of runs: what may be started, on which thread, with which configuration."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from types import MappingProxyType
from uuid import UUID

from headrace.assistants.service import AssistantService
from headrace.auth.principal import Principal
from headrace.checkpoints.answer_memory import Reading
from headrace.checkpoints.row_pages import rows_within
from headrace.db.row_sizes import RowPage
from headrace.db.tables import RunRow
from headrace.errors import (
    AssistantChanged,
    InvalidRequest,
    RunForgotten,
    RunNotFound,
    RunStillStopping,
)
from headrace.events.reader import Released
from headrace.following.following import Followable, Following
from headrace.idempotency.schemas import RequestKey
from headrace.idempotency.service import IdempotencyService
from headrace.ids import canonical_uuid, uuid7
from headrace.queue.rows import (
    CancelAction,
    Dispatcher,
    FollowedRun,
    QueuedRun,
    RunRequest,
)
from headrace.runs.repository import RunRepository
from headrace.runs.run_requests import Asked, RunRequests
from headrace.runs.schemas import RunCreate, RunsCancel, shown_status
from headrace.threads.service import ThreadService

_CANCEL_BATCH = 200
#: The first with what this process remembers of the assistant.
_ASSISTANT_TRIES = 5
#: Long enough for a graph that listens; what does not is taken away from it.
_STOP_SECONDS = 2.0
_CANCELLED = "The run was cancelled."
_DELETED = "The run is deleted."
_ENDED = ("success", "error", "timeout", "interrupted")


class RunService:
    def __init__(
        self,
        repository: RunRepository,
        assistants: AssistantService,
        threads: ThreadService,
        dispatcher: Dispatcher,
        following: Following,
        keys: IdempotencyService,
        requests: RunRequests,
    ) -> None:
        self._repository = repository
        self._assistants = assistants
        self._threads = threads
        self._dispatcher = dispatcher
        self._following = following
        self._keys = keys
        self._requests = requests

    async def start(
        self,
        principal: Principal,
        thread_id: str | None,
        body: RunCreate,
        *,
        request_id: str,
        any_thread_id: bool = False,
        background: bool = False,
        key: RequestKey | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> FollowedRun:
        """Start a run here, or queue it; without a thread on one of its own.

        :param any_thread_id: a thread that is to be created may have an id that is no UUID.
        :param background: nobody follows it from the start.
        :param key: a retry gets the run that the first try has made.
        :param headers: of the request, what the graph is to see in ``configurable``.
        :raises InvalidRequest, NotFound, Conflict, Unavailable: nothing was started.
        """
        if thread_id is not None:
            thread_id = await self._threads.stored_id(principal, thread_id)
        asked = Asked(
            principal=principal,
            thread_id=thread_id,
            body=body,
            request_id=request_id,
            any_thread_id=any_thread_id,
            background=background,
            headers=headers,
        )
        if key is None:
            return await self._make(asked, uuid7(), key=None)
        reserved = await self._keys.reserve(principal, key)
        run_id = reserved.resource_id
        if reserved.made:
            return await self._made(principal, run_id)
        async with self._keys.making(principal, key):
            row = await self._repository.find(principal, run_id) if reserved.resumed else None
            if row is not None:
                run = self._follow(row, created=True)
            else:
                return await self._make(asked, run_id, key=key)
        # Made by a release that did not do that in one transaction.
        await self._keys.confirm(principal, key, run.thread_id)
        return run

    async def _make(self, asked: Asked, run_id: UUID, *, key: RequestKey | None) -> FollowedRun:
        """Once more where the assistant is not any more what this process took it for."""
        for tries_left in reversed(range(_ASSISTANT_TRIES)):
            assistant = await self._assistants.get_for_run(
                asked.principal,
                asked.body.assistant_id,
                reload=tries_left < _ASSISTANT_TRIES - 1,
            )
            request = await self._requests.complete(asked, assistant, run_id, key)
            try:
                return await self._dispatch(request)
            except AssistantChanged:
                if not tries_left:
                    raise
        raise AssertionError("unreachable")

    async def _made(self, principal: Principal, run_id: UUID) -> FollowedRun:
        row = await self._repository.find(principal, run_id)
        if row is None:
            raise RunForgotten
        return self._follow(row, created=True, repeated=True)

    async def _dispatch(self, request: RunRequest) -> FollowedRun:
        run = await self._dispatcher.start(request)
        followable = Followable(
            run_id=request.run_id,
            thread_id=request.thread_id,
            graph_id=request.graph_id,
            tenant=request.principal.tenant,
            resumable=bool(request.kwargs["resumable"]),
            temporary=request.temporary_thread,
        )
        if isinstance(run, QueuedRun):
            return self._following.follow(followable, created=True, queued=True)
        return self._following.follow(followable, created=True, local=run)

    async def follow(
        self, principal: Principal, thread_id: str | None, run_id: UUID
    ) -> FollowedRun:
        """Follow a run wherever it is executed; on whichever thread when none is named.

        :raises RunNotFound: there is none that the caller may see.
        """
        return self._follow(await self._row(principal, thread_id, run_id))

    def _follow(self, row: RunRow, *, created: bool = False, repeated: bool = False) -> FollowedRun:
        followable = Followable(
            run_id=row.run_id,
            thread_id=row.thread_id,
            graph_id=row.graph_id,
            tenant=row.tenant,
            resumable=bool(row.kwargs.get("resumable")),
            temporary=bool(row.kwargs.get("temporary")),
            repeated=repeated,
        )
        return self._following.follow(followable, created=created)

    async def get(self, principal: Principal, thread_id: str | None, run_id: UUID) -> RunRow:
        """:raises RunNotFound: the caller may see none, or it is being rolled back."""
        row = await self._row(principal, thread_id, run_id)
        if shown_status(row) is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return row

    async def _row(self, principal: Principal, thread_id: str | None, run_id: UUID) -> RunRow:
        if thread_id is None:
            row = await self._repository.find(principal, run_id)
        else:
            row = await self._repository.get(principal, thread_id, run_id)
        if row is None:
            raise RunNotFound(f"Run with ID {run_id} not found")
        return row

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

        :param without: of ``kwargs`` and ``metadata`` what is not read, and is ``{}``.
        :raises ThreadNotFound: there is no such thread for the caller.
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
        """Of an answer with runs; the caller releases it."""
        return self._following.memory.reading()

    async def cancel(
        self, principal: Principal, thread_id: str, run_id: UUID, action: CancelAction
    ) -> FollowedRun:
        """Ask a run to stop; the outcome of what is returned tells when it has.

        :raises RunNotFound: there is none, or it has ended.
        """
        row = await self._repository.get(principal, thread_id, run_id)
        if row is None or row.status in _ENDED:
            raise RunNotFound(
                "No matching runs to cancel. Please verify the thread ID and run ID are correct,"
                " and the run hasn't been deleted or completed."
            )
        await self._dispatcher.cancel(principal.tenant, [run_id], action, _CANCELLED)
        return self._follow(row, created=True)

    async def cancel_many(
        self, principal: Principal, which: RunsCancel, action: CancelAction
    ) -> None:
        """Ask all of them to stop.

        :raises RunNotFound: there is none that has not ended.
        """
        thread_id = which.thread_id
        if thread_id is not None:
            thread_id = await self._threads.stored_id(principal, thread_id)
        statuses = ("pending", "running") if which.status in (None, "all") else (which.status,)
        found = 0
        while run_ids := await self._repository.unfinished(
            principal,
            thread_id=thread_id,
            run_ids=which.run_ids,
            statuses=[status for status in statuses if status is not None],
            limit=_CANCEL_BATCH,
        ):
            found += len(run_ids)
            await self._dispatcher.cancel(principal.tenant, run_ids, action, _CANCELLED)
            if len(run_ids) < _CANCEL_BATCH:
                break
        if not found:
            raise RunNotFound("No runs found to cancel.")

    async def delete(
        self, principal: Principal, thread_id: str, run_id: UUID, *, timeout_seconds: float
    ) -> None:
        """Delete a run; one that has not ended is stopped first.

        :raises RunNotFound: there is none.
        :raises RunStillStopping: it does not stop in time.
        """
        row = await self._row(principal, thread_id, run_id)
        if row.status not in _ENDED:
            await self._dispatcher.cancel(principal.tenant, [run_id], "delete", _DELETED)
            if not await self._follow(row, created=True).ended(timeout_seconds):
                raise RunStillStopping
        await self._repository.delete_if_ended(principal, run_id)

    async def stop_all_of(self, principal: Principal, thread_id: str) -> None:
        """Before the thread is deleted: stop its runs, and wait a moment until none is executed."""
        asked = await self._repository.unfinished(
            principal, thread_id=thread_id, limit=_CANCEL_BATCH
        )
        if asked:
            await self._dispatcher.cancel(principal.tenant, asked, "delete", _DELETED)
        row = await self._repository.executed(principal, thread_id)
        if row is not None:
            with suppress(Released):
                await self._follow(row, created=True).ended(_STOP_SECONDS)


def run_id_from(value: str) -> UUID:
    """:raises InvalidRequest: not a UUID."""
    canonical = canonical_uuid(value)
    if canonical is None:
        raise InvalidRequest("Invalid run ID: must be a UUID")
    return UUID(canonical)
