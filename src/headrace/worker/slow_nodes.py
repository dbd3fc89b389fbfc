"""Logs nodes that take long, while they still run.

One look each second at the runs of the process costs the runs nothing. The stream of a graph does
not say which node runs. So only for a step that takes long, the latest checkpoint is read: it says
which nodes were begun and have no result yet. With ``durability: exit`` there is no such
checkpoint; then, and if the read fails, :class:`Progress` logs the node when it ends.
"""

import asyncio
from time import monotonic

import structlog

from headrace.lifecycle import Tasks
from headrace.states.reader import config_of
from headrace.worker.execution import Execution
from headrace.worker.progress import Progress
from headrace.worker.roster import Roster

_log = structlog.stdlib.get_logger("headrace.worker")

_LOOK_SECONDS = 1.0
_READ_SECONDS = 2.0


class SlowNodes:
    """One per process."""

    def __init__(self, roster: Roster, *, slow_seconds: float) -> None:
        self._roster = roster
        self._slow_seconds = slow_seconds
        #: When the step began that was looked at last, by execution.
        self._looked_at: dict[Execution, float] = {}

    def start(self, tasks: Tasks) -> None:
        """Look each second from now on, unless the setting is 0."""
        if self._slow_seconds:
            tasks.repeat(
                self.look,
                every_seconds=min(_LOOK_SECONDS, self._slow_seconds),
                name="slow-nodes",
                log=_log,
                skipped_event="slow_nodes_not_told",
            )

    async def look(self) -> None:
        """One round: each step that takes long is looked at once."""
        now = monotonic()
        slow = {
            one: one.progress
            for one in self._roster.executions.values()
            if one.progress.is_slow(now)
        }
        before, self._looked_at = self._looked_at, {}
        for execution, progress in slow.items():
            began_at = self._looked_at[execution] = progress.step_began_at
            if before.get(execution) != began_at:
                await self._tell(execution, progress, began_at)

    async def _tell(self, execution: Execution, progress: Progress, began_at: float) -> None:
        if execution.request.kwargs.get("durability") == "exit" or progress.compiled is None:
            return
        try:
            async with asyncio.timeout(_READ_SECONDS):
                state = await progress.compiled.aget_state(config_of(execution.thread_id))
            running = [task.name for task in state.tasks if task.result is None and not task.error]
        except Exception:
            # The node is logged when it ends.
            _log.debug("slow_node_unknown", run_id=str(execution.run_id), exc_info=True)
            return
        if progress.compiled is not None and progress.step_began_at == began_at:
            for node in running:
                progress.tell_slow(node, monotonic() - began_at)
