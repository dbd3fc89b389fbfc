"""Watches the list of dead processes, and gives their runs back without waiting for a lease.

Each process of a server does so, also one that drains, that has no lease, or that does not judge
others yet: the end of a process is a fact, whatever the database does. Any number may do it at
once. A process that is started in place of a dead one looks before it claims anything: with one
process, nobody else can.
"""

from time import monotonic
from uuid import UUID

import structlog

from headrace.lifecycle import Tasks
from headrace.unavailable_errors import Unavailable
from headrace.worker.deaths import Deaths
from headrace.worker.rescuer import Rescuer

_log = structlog.stdlib.get_logger("headrace.rescuer")

#: Reading the list costs a microsecond.
_LOOK_SECONDS = 0.1
_AGAIN_SECONDS = 1.0


class DeathWatch:
    """One per process.

    :param lease_seconds: for so long after a death it looks again, each second: a statement that
        the dead process had sent may begin a run later. After that, the rescuer finds such runs.
    """

    def __init__(self, deaths: Deaths, rescuer: Rescuer, *, lease_seconds: float) -> None:
        self._deaths = deaths
        self._rescuer = rescuer
        self._lease_seconds = lease_seconds
        #: By process id: when the process died.
        self._dead: dict[UUID, float] = {}
        self._seen = 0
        self._again_at = 0.0

    async def look_at_start(self) -> None:
        """Look once. If the database does not answer, the next look comes soon."""
        try:
            await self.look()
        except Unavailable as fault:
            _log.warning("sweep_skipped", cause=fault.code)

    def start(self, tasks: Tasks) -> None:
        tasks.repeat(
            self.look,
            every_seconds=_LOOK_SECONDS,
            name="death-watch",
            log=_log,
            skipped_event="sweep_skipped",
        )

    async def look(self) -> None:
        """Give back the runs of processes that have died since the last look.

        :raises Unavailable: the database did not answer. A later look tries again.
        """
        now, total = monotonic(), self._deaths.total
        if total > self._seen:
            self._dead |= self._deaths.since(self._seen)
            self._seen = total
        elif not self._dead or now < self._again_at:
            return
        self._again_at = now + _AGAIN_SECONDS
        await self._rescuer.rescue_from_dead(
            {process_id: now - died_at for process_id, died_at in self._dead.items()}
        )
        self._dead = {
            process_id: died_at
            for process_id, died_at in self._dead.items()
            if now - died_at < self._lease_seconds
        }
