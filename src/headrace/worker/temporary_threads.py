"""Deletes the threads of stateless runs after their runs, many in one transaction.

Thousands of runs may end at one moment. If each used a transaction of its own, nothing else would
get a connection from the pool.
"""

import asyncio
from collections import deque
from itertools import islice
from time import monotonic

import structlog

from headrace.db.faults import DATABASE_ERRORS
from headrace.isolation import for_each_sound
from headrace.lifecycle import Tasks
from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.worker")

_AT_ONCE = 200
_DUE_EVERY_SECONDS = 1.0

#: If a thread still exists this long after the end of its run, its process has died, or could not
#: delete it.
_ABANDONED_AFTER_SECONDS = 300.0
_ABANDONED_EVERY_SECONDS = 60.0


class TemporaryThreads:
    """One per process. When a process dies, another process deletes its threads later.

    :param later_seconds: how long a thread stays if another process may still read its values.
    """

    def __init__(self, queue: Queue, *, later_seconds: float) -> None:
        self._queue = queue
        self._later_seconds = later_seconds
        self._waiting: dict[str, asyncio.Future[None]] = {}
        self._later: deque[tuple[float, str]] = deque()
        self._tasks = Tasks()
        self._deleting = False

    async def delete(self, thread_id: str) -> None:
        """Return once the thread is deleted, or left for a later round."""
        deleted = asyncio.get_running_loop().create_future()
        self._waiting[thread_id] = deleted
        if not self._deleting:
            self._deleting = True
            self._tasks.start(self._delete_waiting(), name="temporary-threads")
        await deleted

    def delete_later(self, thread_id: str) -> None:
        """Delete the thread after ``later_seconds``: followers elsewhere still read its values."""
        self._later.append((monotonic() + self._later_seconds, thread_id))

    def start(self, tasks: Tasks) -> None:
        tasks.keep(self._delete_due_and_abandoned, name="temporary-threads", vital=False)

    async def _delete_due_and_abandoned(self) -> None:
        looked_at = monotonic()
        while True:
            await asyncio.sleep(_DUE_EVERY_SECONDS)
            while due := self._due():
                await self._delete(due, watched=False)
            if monotonic() - looked_at > _ABANDONED_EVERY_SECONDS:
                await self.delete_abandoned()
                looked_at = monotonic()

    async def delete_abandoned(self) -> None:
        """Delete threads whose process died after the end of the run, before it deleted them."""
        try:
            after = ""
            while abandoned := await self._queue.abandoned_temporary_threads(
                older_than_seconds=_ABANDONED_AFTER_SECONDS, after=after
            ):
                await self._delete(abandoned, watched=True)
                after = abandoned[-1]
        except Exception as fault:
            _log.warning("abandoned_threads_left", cause=type(fault).__name__, exc_info=fault)

    def _due(self) -> list[str]:
        due: list[str] = []
        while self._later and len(due) < _AT_ONCE and self._later[0][0] <= monotonic():
            due.append(self._later.popleft()[1])
        return due

    async def _delete_waiting(self) -> None:
        try:
            while self._waiting:
                batch = dict(islice(self._waiting.items(), _AT_ONCE))
                for thread_id in batch:
                    del self._waiting[thread_id]
                try:
                    await self._delete(list(batch), watched=True)
                finally:
                    for deleted in batch.values():
                        if not deleted.done():
                            deleted.set_result(None)
        finally:
            self._deleting = False

    async def _delete(self, thread_ids: list[str], *, watched: bool) -> None:
        """Delete threads; those that cannot be deleted stay, and are logged."""
        try:
            failed = await for_each_sound(
                thread_ids,
                lambda some: self._queue.delete_temporary_threads(some, watched=watched),
                passing=(Unavailable, *DATABASE_ERRORS),
            )
        except Exception as fault:
            # Runs wait for this call to return, and must not wait for ever.
            _log.warning(
                "temporary_threads_left",
                threads=len(thread_ids),
                cause=type(fault).__name__,
                exc_info=None if isinstance(fault, Unavailable) else fault,
            )
            return
        for thread_id, error in failed:
            _log.warning("temporary_threads_left", threads=1, thread_id=thread_id, exc_info=error)
