"""The rounds in which a process claims runs from the queue and begins to execute them."""

import asyncio

import structlog

from headrace.lifecycle import Tasks
from headrace.queue.rows import Attempt
from headrace.unavailable_errors import Unavailable
from headrace.worker.claims import Claims
from headrace.worker.execution import Execution, Stop
from headrace.worker.executions import LEASE_LOST, Executions
from headrace.worker.quarantine import Quarantine
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.worker")


class ClaimRounds:
    """One per process.

    :param tasks: of the worker. It waits for each of them: a claim may commit at any moment.
    """

    def __init__(
        self,
        claims: Claims,
        executions: Executions,
        roster: Roster,
        quarantine: Quarantine,
        tasks: Tasks,
    ) -> None:
        self._claims = claims
        self._executions = executions
        self._roster = roster
        self._quarantine = quarantine
        self._tasks = tasks

    async def until_drained(self) -> None:
        """Claim in rounds until this process drains; then wait until the call is cancelled."""
        while not self._roster.draining:
            # A separate task: when this loop is cancelled, the claim still goes through.
            await self._tasks.start(self._round(), name="claim")
            await self._claims.until_next_round()
        # A loop that ends by itself is reported as a fault.
        await asyncio.Event().wait()

    async def _round(self) -> None:
        try:
            await self._claim()
        finally:
            self._roster.end_round()

    async def _claim(self) -> None:
        try:
            claimed = await self._claims.take()
        except Unavailable as fault:
            _log.warning("claim_skipped", cause=fault.code)
            return
        for attempt in claimed:
            try:
                self._begin(attempt)
            except Exception:
                # Its row says that it is executed here: the next round gives it back.
                run_id = attempt.request.run_id
                _log.exception("claimed_run_not_begun", run_id=str(run_id))
                self._quarantine.end(run_id)
                self._claims.doubt()

    def _begin(self, attempt: Attempt) -> None:
        run_id = attempt.request.run_id
        earlier = self._roster.executions.get(run_id)
        if earlier is None:
            self._executions.begin(attempt)
        else:
            self._tasks.start(self._begin_after(earlier, attempt), name=f"after-{run_id}")

    async def _begin_after(self, earlier: Execution, attempt: Attempt) -> None:
        # The earlier attempt has lost the run, and has not noticed it yet.
        earlier.ask_to_stop(Stop.LEASE_LOST, LEASE_LOST)
        await earlier.until_finished()
        await asyncio.sleep(0)
        try:
            self._executions.begin(attempt)
        except Exception:
            self._claims.doubt()
            raise
