"""Runs that processes were lost with are executed apart: when one begins here, and who may enter.

A run that ends its process (a segfault, os._exit, too much memory) takes all runs beside it along,
and nobody can tell which of them it was. So each of them is a suspect, and has a process to itself
until it has ended or has lived there for longer than it needed to end the process before
(docs/adr/0014-suspects-are-executed-apart.md).
"""

import asyncio
from collections.abc import Callable
from time import monotonic
from uuid import UUID

import structlog

from headrace.queue.claimed import ClaimedRun
from headrace.queue.queue import Suspects
from headrace.setting_groups import WorkerSettings

_log = structlog.stdlib.get_logger("headrace.worker")

#: A suspect that waits this many times the patience is made room for by any process.
_ANY_PROCESS = 10


class Quarantine:
    """One per process.

    :param on_open: called when other runs may begin here again.
    """

    def __init__(self, settings: WorkerSettings, *, on_open: Callable[[], None]) -> None:
        self._settings = settings
        self._on_open = on_open
        self._suspect: UUID | None = None
        self._timer: asyncio.TimerHandle | None = None
        #: Since when no other run has been let in, so that the process becomes idle.
        self._closed_at: float | None = None
        self._open_until = 0.0
        #: One round for others between two suspects.
        self.others_first = False

    @property
    def closed(self) -> bool:
        """Whether no other run may begin here now."""
        return self._suspect is not None or self._closed_at is not None

    def may_take(self, suspects: Suspects | None, *, busy: bool) -> bool:
        """Whether a suspect may begin here now; if not, whether room is made for one.

        :param busy: other runs are executed here.
        """
        if self._suspect is not None:
            return False
        if suspects is None or suspects.executing >= max(1, suspects.processes // 2):
            # The other half is for runs that did nothing.
            self._open()
            return False
        if not busy:
            return not self.others_first or self._closed_at is not None
        if not self._makes_room(suspects):
            self._open()
            return False
        if self._closed_at is None:
            _log.info("room_made_for_suspect", waiting_seconds=round(suspects.waiting_seconds, 1))
            self._closed_at = monotonic()
        # Beside those that are left: they have lived for long, and no other enters.
        return monotonic() - self._closed_at >= self._settings.apart_patience_seconds

    def begun(self, claimed: ClaimedRun) -> None:
        """It is executed here from now on."""
        seconds = max(self._settings.apart_seconds, 2 * (claimed.lived_seconds or 0.0))
        self._suspect, self._closed_at = claimed.request.run_id, None
        self._timer = asyncio.get_running_loop().call_later(
            seconds, self.ended, claimed.request.run_id
        )
        _log.warning(
            "run_executed_apart",
            run_id=str(claimed.request.run_id),
            thread_id=claimed.request.thread_id,
            graph_id=claimed.request.graph_id,
            seconds=round(seconds, 1),
        )

    def ended(self, run_id: UUID) -> None:
        """It has ended, or has lived for long enough: others may enter."""
        if run_id != self._suspect:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._suspect = self._timer = None
        self.others_first = True
        self._open_until = monotonic() + self._settings.apart_patience_seconds
        self._on_open()

    def _makes_room(self, suspects: Suspects) -> bool:
        """The older half of the processes does, and not again at once."""
        patience = self._settings.apart_patience_seconds
        ranks = suspects.older < max(1, suspects.processes // 2)
        long = suspects.waiting_seconds >= patience * (1 if ranks else _ANY_PROCESS)
        return long and monotonic() >= self._open_until

    def _open(self) -> None:
        if self._closed_at is not None:
            self._closed_at = None
            self._on_open()
