"""The route for the timeline of a run."""

from typing import Annotated

from fastapi import Query, Response

from headrace.edge.access import ThreadReader
from headrace.edge.gates import lists
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided
from headrace.runs.read_endpoints import PathRunId
from headrace.runs.service import run_id_from
from headrace.runs.timeline_schemas import RunTimeline
from headrace.runs.timeline_service import TimelineService
from headrace.threads.endpoints import PathThreadId

router = new_router(tag="runs")

Timelines = Annotated[TimelineService, provided(TimelineService)]


@router.get("/threads/{thread_id}/runs/{run_id}/timeline", response_model=RunTimeline)
@lists
async def get_run_timeline(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: ThreadReader,
    timelines: Timelines,
    limit: Annotated[
        int, Query(ge=0, le=1000, description="How many checkpoints to show, the newest ones.")
    ] = 100,
    offset: Annotated[
        int, Query(ge=0, le=10_000, description="How many of the newest checkpoints to skip.")
    ] = 0,
) -> Response:
    """Show what happened to a run: why it stopped, and why it was slow.

    The answer has attempts, waits, checkpoints, interrupts, stops and rescues in the order of time.
    While older checkpoints are left, it has the header `X-Pagination-Next`: send it as `offset` to
    go on. Other servers do not have this route.
    """
    timeline, next_offset = await timelines.read(
        principal, thread_id, run_id_from(run_id), limit=limit, offset=offset
    )
    headers = {} if next_offset is None else {"X-Pagination-Next": str(next_offset)}
    return json_response(timeline.model_dump(), headers=headers)
