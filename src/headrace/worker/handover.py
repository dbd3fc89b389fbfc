"""Hands the runs of a draining process over to others: which can take them, and when to ask.

A run is asked to stop at its next boundary once another process can execute its graph. If there is
none, the run goes on for half of the grace: most runs end by then, and their clients get answers.
"""

import asyncio
from collections.abc import Collection, Sequence
from time import monotonic

import structlog

from headrace.queue.queue import Queue
from headrace.unavailable_errors import Unavailable
from headrace.worker.execution import Execution
from headrace.worker.heartbeat import Heartbeat
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.worker")

_LOOK_SECONDS = 0.5


class Handover:
    """One per process.

    :param graph_ids: the graphs that this process executes.
    """

    def __init__(
        self, queue: Queue, heartbeat: Heartbeat, roster: Roster, *, graph_ids: Sequence[str]
    ) -> None:
        self._queue = queue
        self._heartbeat = heartbeat
        self._roster = roster
        self._graph_ids = graph_ids
        self._served_elsewhere: Collection[str] = ()
        self._asks_all = False

    @property
    def has_successor(self) -> bool:
        """Whether another process executes all graphs of this one."""
        return bool(self._graph_ids) and all(map(self.is_served_elsewhere, self._graph_ids))

    def is_served_elsewhere(self, graph_id: str) -> bool:
        """Whether another process could execute runs of the graph, at the last look."""
        return graph_id in self._served_elsewhere

    def must_leave(self, execution: Execution) -> bool:
        """Whether a run that begins now is to leave this process at once."""
        return self._roster.draining and (
            self._asks_all or self.is_served_elsewhere(execution.request.graph_id)
        )

    async def retire(self) -> None:
        """Tell the other processes not to count on this one, and look which of them can go on."""
        self._heartbeat.retire()
        await self.look()

    async def look(self) -> None:
        """Look which graphs other processes execute."""
        process_id = self._heartbeat.process_id
        if process_id is None:
            return
        try:
            self._served_elsewhere = await self._queue.graphs_served_elsewhere(
                process_id, self._graph_ids
            )
        except Unavailable as fault:
            _log.warning("handover_delayed", cause=fault.code)
        except Exception as fault:
            # The drain must go on, whatever the database says.
            _log.warning("handover_delayed", cause=type(fault).__name__, exc_info=True)

    async def ask_runs(self, grace_seconds: float) -> None:
        """Ask runs to stop at their next boundary, until cancelled."""
        asks_all_at = monotonic() + grace_seconds / 2
        while True:
            await self.look()
            self._asks_all = self._asks_all or monotonic() >= asks_all_at
            for execution in list(self._roster.executions.values()):
                if self.must_leave(execution):
                    execution.control.request_drain()
            await asyncio.sleep(min(_LOOK_SECONDS, max(0.01, grace_seconds / 4)))
