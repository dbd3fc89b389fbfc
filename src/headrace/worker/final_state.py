"""The thread's state after a run that failed or was stopped: it decides the thread's status."""

import asyncio
from dataclasses import dataclass, replace

import structlog
from langgraph.types import StateSnapshot

from headrace.checkpoints.serializer import showing_values
from headrace.events.json_encoding import storable
from headrace.graphs.registry import Graph
from headrace.queue.ends import RunEnd
from headrace.states.reader import config_of, interrupts_by_task

_log = structlog.stdlib.get_logger("headrace.worker")

#: Shorter than the time that a cancelled graph has to clean up: 5 s, or, when the process ends,
#: half of ``server.shutdown_margin_seconds`` (2.5 s by default; below 2 s it may stay unread).
_READ_SECONDS = 2.0

#: Errors which say that the run was refused before it did anything.
_REFUSED = ("ResumeRefused", "TypeNotAllowed")


@dataclass(slots=True)
class FinalState:
    """The thread's state when the graph of a run broke off; None if it was not read."""

    snapshot: StateSnapshot | None = None

    async def read(self, graph: Graph, thread_id: str) -> None:
        """Read the state, because the graph has broken off."""
        try:
            with showing_values():
                async with asyncio.timeout(_READ_SECONDS):
                    self.snapshot = await graph.aget_state(config_of(thread_id))
        except Exception:
            # The thread's row stays as it is.
            _log.info("thread_state_unknown", thread_id=thread_id, exc_info=True)

    def completed(self, end: RunEnd) -> RunEnd:
        """``end`` with the interrupts that the thread waits for.

        A run may fail though no node of it failed: LangGraph refuses a resume that answers none of
        the interrupts, or does not say which one. The thread then still waits, so its status is
        ``interrupted``, not ``error``.
        """
        if self.snapshot is None or end.status in ("success", "pending"):
            return end
        interrupts = storable(interrupts_by_task(self.snapshot))
        failed = any(task.error is not None for task in self.snapshot.tasks)
        status = end.thread_status
        if end.status == "error" and not failed and (interrupts or _refused(end)):
            status = "interrupted" if self.snapshot.next else "idle"
        return replace(end, thread_status=status, thread_interrupts=interrupts)


def _refused(end: RunEnd) -> bool:
    return end.error is not None and end.error["error"] in _REFUSED
