"""Claims runs from the queue while there is room for them, and gives back unknown ones."""

import asyncio
from collections.abc import Awaitable, Sequence
from time import monotonic
from uuid import UUID

import structlog

from headrace.errors import LeaseLost
from headrace.notices.notifier import Notifier
from headrace.observability.metrics import Metrics
from headrace.queue.ends import RELEASED
from headrace.queue.queue import Queue
from headrace.queue.ready_callers import CallerRuns
from headrace.queue.rows import Attempt
from headrace.unavailable_errors import Unavailable
from headrace.worker.fairness import LimitLog, fair_share
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.quarantine import Quarantine
from headrace.worker.roster import Roster
from headrace.worker.run_log import RunLog

_log = structlog.stdlib.get_logger("headrace.worker")

_ROUND_SECONDS = 1.0
#: A process that executes nothing looks for runs of lost processes in each round of claims, but not
#: more often.
_IDLE_LOOK_SECONDS = 0.1
#: How often a process looks for runs that it does not know without a reason to doubt: a claim whose
#: connection was given up may be committed later.
_UNKNOWN_SECONDS = 30.0
#: A claim of ready runs reserves at most this many places while it is under way. Starts in place
#: use the other places.
_CLAIMED_AT_ONCE = 20
#: The pause after a round that found runs only of callers at their limit.
_AT_LIMIT_SECONDS = 0.05


class Claims:
    """One per process. Claims in rounds: whenever the roster is woken, and each second."""

    def __init__(
        self,
        queue: Queue,
        heartbeat: Heartbeat,
        roster: Roster,
        quarantine: Quarantine,
        notifier: Notifier,
        metrics: Metrics,
        run_log: RunLog,
        *,
        graph_ids: Sequence[str],
        apart_seconds: float,
    ) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._roster = roster
        self._quarantine = quarantine
        self._notifier = notifier
        self._metrics = metrics
        self._graph_ids = graph_ids
        self._apart_seconds = apart_seconds
        self._run_log = run_log
        self._look_for_lost_runs_at = 0.0
        self._limit_log = LimitLog(roster.places)
        self._in_doubt = False
        self._look_for_unknown_at = 0.0
        self._connections = 0
        #: The last round may have left runs that there is room for.
        self._more = False
        #: The last round found only runs of callers at their limit.
        self._all_at_limit = False

    def doubt(self) -> None:
        """Note that a start or claim has failed here, though the database may have committed it."""
        self._in_doubt = True

    async def take(self) -> list[Attempt]:
        """One round: claim as many runs as there is room for. The caller begins to execute them.

        Call :meth:`Roster.end_round` once they have begun.

        Do not cancel this call: the database may commit the claim at any moment.

        :raises Unavailable: the database did not answer; the next round tries again.
        """
        self._roster.start_round()
        self._more = self._all_at_limit = False
        if self._may_have_forgotten():
            await self.release_unknown()
        if lost := await self._take_lost():
            self._more = True
            return lost
        if not self._roster.claimable:
            # Nobody knows what waits: the next place that becomes free is for a look.
            self._roster.left_runs = True
            return []
        taken = await self._take_ready()
        if self._quarantine.end_turn_of_others():
            self._look_for_lost_runs_at, self._more = 0.0, True
        return taken

    async def until_next_round(self) -> None:
        """Return when the next round is due; at once if the last one may have left something."""
        if self._all_at_limit:
            # Otherwise each notice and each run that ends would cause another useless round.
            await asyncio.sleep(_AT_LIMIT_SECONDS)
        if not self._more:
            await self._roster.until_woken(_ROUND_SECONDS)

    def _may_have_forgotten(self) -> bool:
        """Whether the rows may name this process as the owner of runs that it does not know.

        There are two causes: a start or claim that failed here but was committed, perhaps later,
        and a failover to an asynchronous standby that lacks the last ends. Other processes take
        runs only from dead processes, so this process must look for such runs itself.
        """
        connections = self._heartbeat.connections
        if connections != self._connections:
            self._in_doubt = self._in_doubt or self._connections > 0
            self._connections = connections
        return self._in_doubt or monotonic() >= self._look_for_unknown_at

    async def _take_lost(self) -> list[Attempt]:
        """Claim runs whose process was lost: rescued runs, else a suspect if it may begin here."""
        process_id, now = self._heartbeat.process_id, monotonic()
        announced, self._roster.lost_run_announced = self._roster.lost_run_announced, False
        if process_id is None or (now < self._look_for_lost_runs_at and not announced):
            return []
        pause = _ROUND_SECONDS if self._roster.busy else _IDLE_LOOK_SECONDS
        self._look_for_lost_runs_at = now + pause
        lost = await self._queue.claimer.lost_runs(
            process_id, self._graph_ids, apart_seconds=self._apart_seconds
        )
        if self._roster.draining:
            return []
        if lost.rescued and (rescued := await self._take_rescued(process_id, lost.rescued)):
            return rescued
        if not self._quarantine.may_take(lost.suspects):
            return []
        # Reserve all places: no other run may begin while the claim is under way.
        claimed = await self._claim(
            self._roster.claimable, self._queue.claimer.claim_suspect(process_id, self._graph_ids)
        )
        for attempt in claimed:
            self._metrics.runs.count_run_apart()
            self._quarantine.begin(attempt)
        return claimed

    async def _take_rescued(self, process_id: UUID, waiting: int) -> list[Attempt]:
        """Claim rescued runs, whatever the shares of their callers say: they had places before."""
        wanted = min(self._roster.claimable, waiting, _CLAIMED_AT_ONCE)
        if wanted < waiting:
            # The next round, perhaps with more room, does not wait for its time to look.
            self._look_for_lost_runs_at = 0.0
        if not wanted:
            return []
        return await self._claim(
            wanted, self._queue.claimer.claim_rescued(process_id, self._graph_ids, wanted)
        )

    async def _take_ready(self) -> list[Attempt]:
        """Claim what is ready, the longest ready first."""
        process_id = self._heartbeat.process_id
        wanted = min(self._roster.claimable, _CLAIMED_AT_ONCE)
        if process_id is None:
            return []
        if self._roster.places.shared:
            return await self._take_fair_share(process_id, wanted)
        claimed = await self._claim(
            wanted, self._queue.claimer.claim(process_id, self._graph_ids, wanted)
        )
        self._roster.left_runs = len(claimed) == wanted
        if self._roster.left_runs:
            self._more = self._roster.free > len(claimed)
            if not self._more:
                self._notifier.queue_changed()
        return claimed

    async def _take_fair_share(self, process_id: UUID, wanted: int) -> list[Attempt]:
        """Claim for several callers, each as far as its share of the places allows."""
        ready = await self._queue.callers.ready(self._graph_ids, wanted)
        # Starts in place may have taken places during the query.
        wanted = min(self._roster.claimable, wanted)
        chosen = fair_share(self._roster.places, ready, wanted)
        runs = sum(one.runs for one in chosen)
        left = sum(one.runs for one in ready) > runs
        self._roster.left_runs = left
        self._roster.left_at_limit = left and runs < wanted
        if self._roster.left_at_limit:
            self._log_callers_at_limit(ready, chosen)
        if not chosen:
            self._all_at_limit = self._roster.left_at_limit
            return []
        claimed = await self._claim(
            runs, self._queue.claimer.claim_for_callers(process_id, self._graph_ids, chosen)
        )
        if claimed:
            self._more = runs == wanted and self._roster.free > len(claimed)
            if left and not self._more:
                self._notifier.queue_changed()
        return claimed

    def _log_callers_at_limit(
        self, ready: Sequence[CallerRuns], chosen: Sequence[CallerRuns]
    ) -> None:
        runs = {one.caller: one.runs for one in chosen}
        for one in ready:
            if one.runs > runs.get(one.caller, 0):
                self._limit_log.reached(one.caller)

    async def _claim(self, places: int, claim: Awaitable[list[Attempt]]) -> list[Attempt]:
        """Wait for a claim. Until it returns, so many ``places`` are reserved for it."""
        self._roster.reserve(places)
        try:
            claimed = await claim
        except Exception:
            self._in_doubt = True
            raise
        finally:
            self._roster.reserve(0)
        for attempt in claimed:
            self._run_log.claimed(attempt)
        return claimed

    async def release_unknown(self) -> None:
        """Release runs that, by their rows, this process executes, but that it does not know."""
        process_id = self._heartbeat.process_id
        if process_id is None:
            return
        self._in_doubt = False
        self._look_for_unknown_at = monotonic() + _UNKNOWN_SECONDS
        try:
            for token, thread_id in await self._queue.attempts_of(process_id):
                if self._roster.has(token.run_id):
                    continue
                try:
                    await self._queue.end_if_owned(token, thread_id, RELEASED)
                except LeaseLost:
                    # It was known, and has ended meanwhile.
                    continue
                _log.warning("unknown_run_released", run_id=str(token.run_id), thread_id=thread_id)
        except Unavailable:
            self._in_doubt = True
            raise
