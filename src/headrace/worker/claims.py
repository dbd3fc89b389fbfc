"""Takes runs from the queue while there is room for them, gives back what it took unawares."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID

import structlog

from headrace.errors import LeaseLost, Unavailable
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.runs.queue import ClaimedRun, Queue
from headrace.runs.transitions import RELEASED
from headrace.worker.apart import Apart
from headrace.worker.heartbeat import Heartbeat

_log = structlog.stdlib.get_logger("headrace.worker")

_ROUND_SECONDS = 1.0
#: A claim reserves so many places while it is under way; starts in place have the others.
_CLAIMED_AT_ONCE = 20


class Claims:
    """One per process.

    :param tasks: where claims are held: one may commit, so whoever stops the process waits for it.
    :param free: places that nobody has.
    :param holds: whether this process executes a run, or is about to.
    :param busy: whether this process executes or begins any run.
    :param begin: called with each run that was taken, and the owner's id.
    :param on_full: called when there is no more room for what may be left.
    """

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        metrics: Metrics,
        tasks: Tasks,
        *,
        graph_ids: Sequence[str],
        apart: Apart,
        apart_seconds: float,
        free: Callable[[], int],
        busy: Callable[[], bool],
        holds: Callable[[UUID], bool],
        begin: Callable[[ClaimedRun, UUID], None],
        on_full: Callable[[], None],
    ) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._metrics = metrics
        self._tasks = tasks
        self._graph_ids = graph_ids
        self._apart = apart
        self._apart_seconds = apart_seconds
        self._look_for_suspects_at = 0.0
        self._free = free
        self._busy = busy
        self._holds = holds
        self._begin = begin
        self._on_full = on_full
        self._look = asyncio.Event()
        self._in_doubt = False
        self._connections = 0
        self._ended = False
        #: Places that a claim under way may fill.
        self.reserved = 0

    def wake(self) -> None:
        """There may be something to claim."""
        self._look.set()

    def doubt(self) -> None:
        """A start or claim has failed, and may have been committed nevertheless."""
        self._in_doubt = True

    def end(self) -> None:
        """Take no more."""
        self._ended = True
        self._look.set()

    async def take_for_ever(self) -> None:
        """When woken, and each second."""
        while not self._ended:
            self._look.clear()
            more = False
            try:
                if self._may_have_forgotten():
                    await self._release_unknown()
                if await self._tasks.start(self._take_suspect(), name="claim-suspect"):
                    continue
                if self._free():
                    more = await self._tasks.start(self._take(), name="claim")
                    if self._apart.others_first:
                        # Theirs was the first round after a suspect; now the next may come.
                        self._apart.others_first, self._look_for_suspects_at = False, 0.0
                        more = True
            except Unavailable as fault:
                _log.warning("claim_skipped", cause=fault.code)
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ROUND_SECONDS):
                        await self._look.wait()
        # Until it is stopped with the others: one that ends by itself is reported as a fault.
        await asyncio.Event().wait()

    def _may_have_forgotten(self) -> bool:
        """Whether the rows may say that this process has runs of which it knows nothing.

        So they do after a start or claim in doubt, and where an asynchronous standby took over that
        lacks the last ends: nobody else takes those runs while this process lives.
        """
        connections = self._heartbeat.connections
        if connections != self._connections:
            self._in_doubt = self._in_doubt or self._connections > 0
            self._connections = connections
        return self._in_doubt

    async def _take_suspect(self) -> bool:
        """Take a run that processes were lost with, if one waits and may begin here."""
        process_id, now = self._heartbeat.process_id, monotonic()
        if process_id is None or now < self._look_for_suspects_at:
            return False
        self._look_for_suspects_at = now + _ROUND_SECONDS
        suspects = await self._queue.suspects(
            process_id, self._graph_ids, apart_seconds=self._apart_seconds
        )
        if self._ended or not self._apart.may_take(suspects, busy=self._busy()):
            return False
        # Nothing else begins meanwhile.
        self.reserved = self._free()
        try:
            claimed = await self._queue.claim_suspect(process_id, self._graph_ids)
        except Exception:
            self._in_doubt = True
            raise
        finally:
            self.reserved = 0
        for one in claimed:
            self._metrics.count_claim()
            self._metrics.count_run_apart()
            self._apart.begun(one)
        self._begin_all(claimed, process_id)
        return bool(claimed)

    def _begin_all(self, claimed: Sequence[ClaimedRun], process_id: UUID) -> None:
        for one in claimed:
            try:
                self._begin(one, process_id)
            except Exception:
                # Its row says that it is executed here: it is given back like others of these.
                _log.exception("claimed_run_not_begun", run_id=str(one.request.run_id))
                self._apart.ended(one.request.run_id)
                self._in_doubt = True

    async def _take(self) -> bool:
        """Take what there is and there is room for; whether more may be there."""
        process_id, wanted = self._heartbeat.process_id, min(self._free(), _CLAIMED_AT_ONCE)
        if process_id is None:
            return False
        self.reserved = wanted
        try:
            claimed = await self._queue.claim(process_id, self._graph_ids, wanted)
        except Exception:
            self._in_doubt = True
            raise
        finally:
            self.reserved = 0
        for _ in claimed:
            self._metrics.count_claim()
        self._begin_all(claimed, process_id)
        full = not self._free()
        if len(claimed) == wanted and full:
            self._on_full()
        return len(claimed) == wanted and not full

    async def _release_unknown(self) -> None:
        """Give back runs that this process has according to the rows alone."""
        process_id = self._heartbeat.process_id
        if process_id is None:
            return
        self._in_doubt = False
        try:
            for run_id, thread_id, attempt in await self._queue.owned(process_id):
                if self._holds(run_id):
                    continue
                with suppress(LeaseLost):
                    await self._queue.end_if_owned(
                        run_id=run_id,
                        thread_id=thread_id,
                        attempt=attempt,
                        process_id=process_id,
                        end=RELEASED,
                    )
                _log.warning("unknown_run_released", run_id=str(run_id), thread_id=thread_id)
        except Unavailable:
            self._in_doubt = True
            raise
