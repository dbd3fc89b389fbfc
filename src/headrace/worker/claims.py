"""Takes runs from the queue while there is room for them, gives back what it took unawares."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from time import monotonic
from uuid import UUID

import structlog

from headrace.errors import LeaseLost, Unavailable
from headrace.lifecycle import Tasks
from headrace.observability.metrics import Metrics
from headrace.queue.claimed import ClaimedRun
from headrace.queue.ends import RELEASED
from headrace.queue.queue import Queue
from headrace.queue.ready_callers import Turn
from headrace.shares import Places
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.quarantine import Quarantine
from headrace.worker.turns import LimitLog, turns

_log = structlog.stdlib.get_logger("headrace.worker")

_ROUND_SECONDS = 1.0
#: A claim reserves so many places while it is under way; starts in place have the others.
_CLAIMED_AT_ONCE = 20
#: A look that found runs only of callers at their limit is repeated no sooner.
_PASSED_OVER_SECONDS = 0.05


class Claims:
    """One per process.

    :param tasks: where claims are held: one may commit, so whoever stops the process waits for it.
    :param places: of this process, and who holds them.
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
        apart: Quarantine,
        apart_seconds: float,
        places: Places,
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
        self._places = places
        self._limit_log = LimitLog(places)
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
        #: Runs of callers at their limit wait, as far as the last look tells.
        self.passed_over = False
        #: The last look found such runs and no other.
        self._fruitless = False

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
            more = self._fruitless = False
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
            if self._fruitless:
                # Each notice and each run that ends would cause another look.
                await asyncio.sleep(_PASSED_OVER_SECONDS)
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
        if self._places.shared:
            return await self._take_in_turns(process_id, wanted)
        taken = await self._claim(
            wanted, self._queue.claim(process_id, self._graph_ids, wanted), process_id
        )
        full = not self._free()
        if taken == wanted and full:
            self._on_full()
        return taken == wanted and not full

    async def _take_in_turns(self, process_id: UUID, wanted: int) -> bool:
        """The same where there are several callers: each caller as far as its share allows."""
        ready = await self._queue.callers.ready(self._graph_ids, wanted)
        # Others may have started meanwhile.
        wanted = min(self._free(), wanted)
        chosen = turns(self._places, ready, wanted)
        runs = sum(turn.runs for turn in chosen)
        left = sum(turn.runs for turn in ready) > runs
        self.passed_over = left and runs < wanted
        if self.passed_over:
            self._log_passed_over(ready, chosen)
        if not chosen:
            self._fruitless = self.passed_over
            return False
        taken = await self._claim(
            runs, self._queue.claim_turns(process_id, self._graph_ids, chosen), process_id
        )
        more = taken > 0 and runs == wanted and self._free() > 0
        if taken and left and not more:
            self._on_full()
        return more

    def _log_passed_over(self, ready: Sequence[Turn], chosen: Sequence[Turn]) -> None:
        runs = {turn.caller: turn.runs for turn in chosen}
        for turn in ready:
            if turn.runs > runs.get(turn.caller, 0):
                self._limit_log.met(turn.caller)

    async def _claim(
        self, places: int, claim: Awaitable[Sequence[ClaimedRun]], process_id: UUID
    ) -> int:
        """Begin what is claimed, and tell how many; meanwhile the places are reserved."""
        self.reserved = places
        try:
            claimed = await claim
        except Exception:
            self._in_doubt = True
            raise
        finally:
            self.reserved = 0
        for _ in claimed:
            self._metrics.count_claim()
        self._begin_all(claimed, process_id)
        return len(claimed)

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
