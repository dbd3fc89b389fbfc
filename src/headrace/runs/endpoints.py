"""The routes that create, cancel and delete runs."""

from contextlib import suppress
from typing import Annotated, Any

from fastapi import Body, Query, Request, Response
from pydantic import Field

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.edge.access import CurrentAccess, ThreadDeleter
from headrace.edge.gates import changes, lasting, lasting_when
from headrace.edge.repetition import repeatable
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.request_traces import trace_of
from headrace.edge.requests import end_turn
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import configurable_headers, request_id_of
from headrace.events.reader import FollowingStopped
from headrace.following.followed_run import FollowedRun
from headrace.idempotency.schemas import RequestKey
from headrace.queue.rows import CancelAction
from headrace.runs.read_endpoints import PathRunId
from headrace.runs.responses import (
    JSON,
    SSE,
    Runs,
    run_path,
    stopping_response,
    streaming_response,
    waiting_response,
)
from headrace.runs.schemas import YEAR_SECONDS, Run, RunCreate, RunsCancel, StopNote, with_deadline
from headrace.runs.service import RunService, run_id_from
from headrace.threads.endpoints import PathThreadId

router = new_router(tag="runs")

#: In the query too: the SDKs send no fields of other servers, but any parameters of the query.
DeadlineSeconds = Annotated[
    float | None, Query(alias="deadline_seconds", gt=0, le=YEAR_SECONDS, allow_inf_nan=False)
]

_MAX_BATCH = 100


@router.post("/threads/{thread_id}/runs/wait", responses=JSON, response_class=Response)
@lasting
async def wait_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run on a thread, wait for the end, and return the last values."""
    run = await _create(runs, principal, thread_id, body, key, request, deadline)
    return await waiting_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/runs/wait", responses=JSON, response_class=Response)
@lasting
async def wait_stateless_run(
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run without a thread, wait for the end, and return the last values."""
    run = await _create(runs, principal, None, body, key, request, deadline)
    return await waiting_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/threads/{thread_id}/runs/stream", responses=SSE, response_class=Response)
@lasting
async def stream_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run on a thread and stream the events."""
    run = await _create(runs, principal, thread_id, body, key, request, deadline)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/runs/stream", responses=SSE, response_class=Response)
@lasting
async def stream_stateless_run(
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run without a thread and stream the events."""
    run = await _create(runs, principal, None, body, key, request, deadline)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/threads/{thread_id}/runs", response_model=Run)
async def create_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run on a thread, in the background."""
    run, shown = await _in_background(runs, principal, thread_id, body, key, request, deadline)
    return json_response(shown, headers={"Content-Location": run_path(run)})


@router.post("/runs", response_model=Run)
async def create_stateless_run(
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
    deadline: DeadlineSeconds = None,
) -> Response:
    """Create a run without a thread, in the background."""
    run, shown = await _in_background(runs, principal, None, body, key, request, deadline)
    return json_response(shown, headers={"Content-Location": f"/runs/{run.run_id}"})


@router.post("/runs/batch", response_model=list[Run])
async def create_runs(
    bodies: Annotated[
        list[RunCreate], Field(min_length=1, max_length=_MAX_BATCH, fail_fast=True), Body()
    ],
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Create several runs without threads, in the background."""
    made: list[dict[str, Any]] = []
    for number, body in enumerate(bodies):
        own = key.part(number) if key is not None else None
        made.append((await _in_background(runs, principal, None, body, own, request))[1])
    return json_response(made)


async def _in_background(
    runs: RunService,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    key: RequestKey | None,
    request: Request,
    deadline: float | None = None,
) -> tuple[FollowedRun, dict[str, Any]]:
    run = await _create(runs, principal, thread_id, body, key, request, deadline, background=True)
    row = await runs.get(principal, run.thread_id, run.run_id)
    return run, Run.from_row(row).__dict__


async def _create(
    runs: RunService,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    key: RequestKey | None,
    request: Request,
    deadline: float | None,
    *,
    background: bool = False,
) -> FollowedRun:
    """
    :param deadline: what the query says; the body may say it too.
    """
    if not background and runs.waits_for_place(principal):
        # Other requests need not wait until this one has its place.
        end_turn(request)
    return await runs.create(
        principal,
        thread_id,
        with_deadline(body, deadline),
        request_id=request_id_of(request),
        trace=trace_of(request),
        background=background,
        key=key,
        headers=configurable_headers(request),
    )


_STOPPED: dict[str, Any] = {
    "description": "The run has stopped (`wait`)",
    "content": {"application/json": {}},
}

#: How long a delete waits for a run to stop; a cancelled graph has less time to clean up.
_STOP_SECONDS = 10.0

#: Most graphs stop within this time. Then the thread is free, and shown as free, when the client
#: gets the answer.
_MOMENT_SECONDS = 0.25


@router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    responses={200: _STOPPED, 202: {"description": "The run was asked to stop"}},
    response_class=Response,
)
@lasting_when(lambda values: bool(values["wait"]))
async def cancel_run(
    thread_id: PathThreadId,
    run_id: PathRunId,
    access: CurrentAccess,
    runs: Runs,
    request: Request,
    wait: Annotated[bool, Query()] = False,
    action: Annotated[CancelAction, Query()] = "interrupt",
    reason: Annotated[StopNote, Query()] = None,
) -> Response:
    """Stop a run.

    202: the run was asked to stop, and is shown as `interrupted` from now on; with
    `action=rollback` it is not shown any more. With `wait` the answer is 200 and `{}`, once the run
    has stopped. The row, the log and the end of the stream repeat the `reason`.
    """
    principal = await access.to("threads", "update", action=action)
    run = await runs.cancel(principal, thread_id, run_id_from(run_id), action, reason)
    if wait:
        return stopping_response(run, request)
    end_turn(request)
    with suppress(FollowingStopped):
        await run.outcome(_MOMENT_SECONDS)
    return Response(status_code=202)


@router.post("/runs/cancel", status_code=204, response_class=Response)
@changes
async def cancel_runs(
    body: RunsCancel,
    access: CurrentAccess,
    runs: Runs,
    action: Annotated[CancelAction, Query()] = "interrupt",
    reason: Annotated[StopNote, Query()] = None,
) -> Response:
    """Stop several runs: the named ones, or all that have a status."""
    principal = await access.to(
        "threads",
        "update",
        thread_id=body.thread_id,
        run_ids=body.run_ids,
        status=body.status,
        action=action,
    )
    await runs.cancel_many(principal, body, action, reason)
    return Response(status_code=204)


@router.delete("/threads/{thread_id}/runs/{run_id}", status_code=204, response_class=Response)
@repeatable
async def delete_run(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: ThreadDeleter,
    runs: Runs,
    request: Request,
) -> Response:
    """Delete a run; one that has not ended is stopped first."""
    # It may wait for the run to stop.
    end_turn(request)
    await runs.delete(principal, thread_id, run_id_from(run_id), timeout_seconds=_STOP_SECONDS)
    return Response(status_code=204)
