"""Where a run leaves its thread whose graph did not come to its end: as the thread's state says."""

from dataclasses import replace
from typing import Any

import structlog
from langchain_core.runnables import RunnableConfig

from headrace.events.encoding import storable
from headrace.graphs.registry import GraphRegistry
from headrace.runs.dispatcher import RunRequest
from headrace.runs.transitions import RunEnd
from headrace.threads.state import config_of, interrupts_by_task

_log = structlog.stdlib.get_logger("headrace.worker")

#: Of errors that say that the run was refused before it did anything.
_REFUSED = ("UnknownInterruptError",)


async def standing(
    registry: GraphRegistry, request: RunRequest, config: RunnableConfig, end: RunEnd
) -> RunEnd:
    """``end`` with what the thread waits for.

    A thread that waits and has no failed node is ``interrupted``, though a run on it was refused:
    LangGraph does so over a resume that answers none of the interrupts, or does not say which.
    """
    try:
        async with registry.for_run(
            request.graph_id, config, access="threads.create_run", context=request.kwargs["context"]
        ) as graph:
            snapshot = await graph.aget_state(config_of(request.thread_id))
            interrupts: dict[str, Any] = storable(interrupts_by_task(snapshot))
    except Exception:
        # The graph fails, or cannot be made: what the run says of itself is what is known.
        _log.info("thread_state_unknown", graph_id=request.graph_id, exc_info=True)
        return end
    failed = any(task.error is not None for task in snapshot.tasks)
    status = end.thread_status
    if end.status == "error" and not failed and (interrupts or _refused(end)):
        status = "interrupted" if snapshot.next else "idle"
    return replace(end, thread_status=status, interrupts=interrupts or None)


def _refused(end: RunEnd) -> bool:
    return end.error is not None and end.error["error"] in _REFUSED
