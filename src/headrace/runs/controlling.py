"""Stopping and deleting runs over HTTP."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import Query, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.places import changes, lasting_when
from headrace.edge.routing import new_router
from headrace.events.reader import Released
from headrace.runs.answers import Runs, stopping_response
from headrace.runs.dispatcher import CancelAction
from headrace.runs.paths import PathRunId
from headrace.runs.schemas import RunsCancel
from headrace.runs.service import run_id_from
from headrace.threads.paths import PathThreadId

router = new_router(tag="runs")

_STOPPED: dict[str, Any] = {
    "description": "It has stopped (`wait`)",
    "content": {"application/json": {}},
}

#: Longer than a graph that is cancelled may take to clean up.
_STOP_SECONDS = 10.0

#: Most graphs stop within it; their threads are free, and say so, when the answer comes.
_MOMENT_SECONDS = 0.25


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    responses={200: _STOPPED, 202: {"description": "It was asked to stop"}},
    response_class=Response,
)
@lasting_when(lambda values: bool(values["wait"]))
async def cancel_run(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    wait: Annotated[bool, Query()] = False,
    action: Annotated[CancelAction, Query()] = "interrupt",
) -> Response:
    """Stop a run.

    202: it was asked to stop, and is shown as `interrupted` from now on. With `wait` the answer is
    200 and `{}` once it has stopped.
    """
    run = await runs.cancel(principal, thread_id, run_id_from(run_id), action)
    if wait:
        return stopping_response(run, request)
    with suppress(Released):
        await run.outcome(_MOMENT_SECONDS)
    return Response(status_code=202)


@router.post("/runs/cancel", status_code=204, response_class=Response)
@changes
async def cancel_runs(
    body: RunsCancel,
    principal: CurrentPrincipal,
    runs: Runs,
    action: Annotated[CancelAction, Query()] = "interrupt",
) -> Response:
    """Stop several runs: those that are named, or all of a status."""
    await runs.cancel_many(principal, body, action)
    return Response(status_code=204)


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204, response_class=Response)
async def delete_run(
    thread_id: PathThreadId, run_id: PathRunId, principal: CurrentPrincipal, runs: Runs
) -> Response:
    """Delete a run; one that has not ended is stopped first."""
    await runs.delete(principal, thread_id, run_id_from(run_id), timeout_seconds=_STOP_SECONDS)
    return Response(status_code=204)
