"""Stopping the runs of a caller: of one thread, of a list, or all."""

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

from headrace.auth.principal import Principal
from headrace.db.tables import RunRow
from headrace.events.event import CANCELLED
from headrace.events.reader import FollowingStopped
from headrace.following.followed_run import FollowedRun
from headrace.following.following import Following
from headrace.queue.rows import CancelAction
from headrace.threads.repository import ThreadRepository
from headrace.worker.worker import Worker

_BATCH = 200
#: Long enough for a graph that heeds a cancel. A run that does not stop in time loses its thread.
_STOP_SECONDS = 2.0
_DELETED = "The run is deleted."


class RunStops:
    def __init__(self, worker: Worker, following: Following, repository: ThreadRepository) -> None:
        self._worker = worker
        self._following = following
        self._repository = repository

    async def cancel(
        self, principal: Principal, run: RunRow, action: CancelAction, note: str | None
    ) -> FollowedRun:
        """Ask one run to stop. The returned run has an outcome once it has stopped."""
        await self._worker.cancel(principal, [run.run_id], action, CANCELLED, "client", note=note)
        return self._follow(run)

    async def cancel_many(
        self,
        principal: Principal,
        action: CancelAction,
        note: str | None,
        *,
        thread_id: str | None,
        run_ids: Sequence[UUID] | None,
        statuses: Sequence[str],
    ) -> int:
        """Ask runs to stop: those of a thread, of a list, or all; returns how many were asked."""
        asked = 0
        while found := await self._repository.unfinished_runs(
            principal, thread_id=thread_id, run_ids=run_ids, statuses=statuses, limit=_BATCH
        ):
            asked += len(found)
            await self._worker.cancel(principal, found, action, CANCELLED, "client", note=note)
            if len(found) < _BATCH:
                break
        return asked

    async def stop(self, principal: Principal, run: RunRow, timeout_seconds: float) -> bool:
        """Stop a run that is going to be deleted; False when it does not stop in time.

        :raises FollowingStopped: this process stops following the run.
        """
        await self._worker.cancel(principal, [run.run_id], "delete", _DELETED, "deleted")
        return await self._follow(run).ended(timeout_seconds)

    async def stop_all_of(self, principal: Principal, thread_id: str) -> None:
        """Stop the runs of a thread that is going to be deleted.

        Returns once no process executes a run of the thread, or after two seconds.
        """
        asked = await self._repository.unfinished_runs(principal, thread_id=thread_id, limit=_BATCH)
        if asked:
            await self._worker.cancel(principal, asked, "delete", _DELETED, "deleted")
        run = await self._repository.executed_run(principal, thread_id)
        if run is not None:
            with suppress(FollowingStopped):
                await self._follow(run).ended(_STOP_SECONDS)

    def _follow(self, run: RunRow) -> FollowedRun:
        local = self._worker.execution_of(run.run_id)
        return FollowedRun.of(self._following, run, local=local, created=True)
