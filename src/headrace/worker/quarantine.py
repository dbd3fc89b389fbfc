"""Suspects: runs that processes were lost with repeatedly. Each is executed alone, one per process.

A run that kills its process (a segfault, ``os._exit``, too much memory) takes the other runs of
the process down with it, and no one can tell which run it was. One such loss may be chance, and the
runs go on together. Runs that it happens to a second time are suspects. No other run begins
beside a suspect until it has ended, or has lived for the longer of two times:
``worker.apart_seconds``, and twice the time that it had lived when its process was lost
(docs/adr/0014-suspects-are-executed-apart.md).
"""

import asyncio
from time import monotonic
from uuid import UUID

import structlog

from headrace.queue.claimer import Suspects
from headrace.queue.rows import Attempt
from headrace.setting_groups import WorkerSettings
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.worker")

#: When a suspect has waited this many times ``apart_patience_seconds``, any process makes room.
_ANY_PROCESS = 10


class Quarantine:
    """One per process. Closes the roster for a suspect, and opens it when other runs may begin."""

    def __init__(self, settings: WorkerSettings, roster: Roster) -> None:
        self._settings = settings
        self._roster = roster
        self._suspect: UUID | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Since when the process lets no other run begin, so that it becomes idle.
        self._closed_at: float | None = None
        self._open_until = 0.0
        #: Between two suspects, other runs may begin in one round.
        self._others_first = False

    def end_turn_of_others(self) -> bool:
        """Note that other runs have had a round of claims; return whether a suspect waited."""
        waited, self._others_first = self._others_first, False
        return waited

    def may_take(self, suspects: Suspects | None) -> bool:
        """Whether a suspect may begin here now; if not, room may be made for one."""
        if self._suspect is not None:
            return False
        if suspects is None or suspects.executing >= max(1, suspects.processes // 2):
            # The other half of the processes is for runs that are no suspects.
            self._open()
            return False
        if not self._roster.busy:
            return not self._others_first or self._closed_at is not None
        if not self._makes_room(suspects):
            self._open()
            return False
        if self._closed_at is None:
            _log.info("room_made_for_suspect", waiting_seconds=round(suspects.waiting_seconds, 1))
            self._closed_at = monotonic()
            self._roster.close()
        # After ``apart_patience_seconds`` the suspect begins beside the runs that are left. These
        # have lived for long, and no new run begins.
        return monotonic() - self._closed_at >= self._settings.apart_patience_seconds

    def begin(self, attempt: Attempt) -> None:
        """Note that the suspect is executed here from now on."""
        request = attempt.request
        seconds = max(self._settings.apart_seconds, 2 * (attempt.lived_seconds or 0.0))
        self._suspect, self._closed_at = request.run_id, None
        self._roster.close()
        self._timer = asyncio.get_running_loop().call_later(seconds, self.end, request.run_id)
        _log.info(
            "run_executed_apart",
            run_id=str(request.run_id),
            thread_id=request.thread_id,
            graph_id=request.graph_id,
            seconds=round(seconds, 1),
        )

    def end(self, run_id: UUID) -> None:
        """Note that a run has ended or lived long enough; after a suspect, others may begin."""
        if run_id != self._suspect:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._suspect = self._timer = None
        self._others_first = True
        self._open_until = monotonic() + self._settings.apart_patience_seconds
        self._reopen()

    def _makes_room(self, suspects: Suspects) -> bool:
        """Whether this process makes room for a suspect that waits.

        The older half of the processes does, and later every process; but none soon after its last
        suspect.
        """
        patience = self._settings.apart_patience_seconds
        in_older_half = suspects.older < max(1, suspects.processes // 2)
        waited = suspects.waiting_seconds >= patience * (1 if in_older_half else _ANY_PROCESS)
        return waited and monotonic() >= self._open_until

    def _open(self) -> None:
        if self._closed_at is not None:
            self._closed_at = None
            self._reopen()

    def _reopen(self) -> None:
        self._roster.open()
        self._roster.announce()
