"""Routes of runs: create, read, join, cancel and delete."""

import re
from contextlib import suppress
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Body, Header, Path, Query, Request, Response
from pydantic import Field

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.checkpoints.row_pages import next_page
from headrace.edge.gates import changes, lasting, lasting_when, lists
from headrace.edge.query_lists import QueryList, query_values
from headrace.edge.request_traces import trace_of
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.state import configurable_headers, request_id_of
from headrace.errors import InvalidRequest
from headrace.events.modes import STREAM_MODES
from headrace.events.reader import FollowingStopped
from headrace.following.followed_run import FollowedRun
from headrace.idempotency.requests import IdempotencyKey
from headrace.idempotency.schemas import RequestKey
from headrace.queue.rows import CancelAction
from headrace.runs.responses import (
    JSON,
    SSE,
    Runs,
    run_path,
    stopping_response,
    streaming_response,
    waiting_response,
)
from headrace.runs.schemas import Run, RunCreate, RunField, RunsCancel, RunStatus
from headrace.runs.service import RunService, run_id_from
from headrace.threads.endpoints import PathThreadId

making_router = new_router(tag="runs")
#: ``Location`` headers point to these endpoints.
followed_router = new_router(tag="runs", followed=True)

#: As the client writes it; :func:`headrace.runs.service.run_id_from` checks it.
PathRunId = Annotated[str, Path(max_length=255)]


_MAX_BATCH = 100


@making_router.post("/threads/{thread_id}/runs/wait", responses=JSON, response_class=Response)
@lasting
async def wait_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Create a run on a thread, wait for the end, and return the last values."""
    run = await _create(runs, principal, thread_id, body, key, request)
    return await waiting_response(run, request, on_disconnect=body.on_disconnect)


@making_router.post("/runs/wait", responses=JSON, response_class=Response)
@lasting
async def wait_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Create a run without a thread, wait for the end, and return the last values."""
    run = await _create(runs, principal, None, body, key, request)
    return await waiting_response(run, request, on_disconnect=body.on_disconnect)


@making_router.post("/threads/{thread_id}/runs/stream", responses=SSE, response_class=Response)
@lasting
async def stream_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Create a run on a thread and stream the events."""
    run = await _create(runs, principal, thread_id, body, key, request)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@making_router.post("/runs/stream", responses=SSE, response_class=Response)
@lasting
async def stream_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Create a run without a thread and stream the events."""
    run = await _create(runs, principal, None, body, key, request)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@making_router.post("/threads/{thread_id}/runs", response_model=Run)
async def create_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Create a run on a thread, in the background."""
    run, shown = await _in_background(runs, principal, thread_id, body, key, request)
    return json_response(shown, headers={"Content-Location": run_path(run)})


@making_router.post("/runs", response_model=Run)
async def create_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Create a run without a thread, in the background."""
    run, shown = await _in_background(runs, principal, None, body, key, request)
    return json_response(shown, headers={"Content-Location": f"/runs/{run.run_id}"})


@making_router.post("/runs/batch", response_model=list[Run])
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
) -> tuple[FollowedRun, dict[str, Any]]:
    run = await _create(runs, principal, thread_id, body, key, request, background=True)
    row = await runs.get(principal, run.thread_id, run.run_id)
    return run, Run.from_row(row).__dict__


async def _create(
    runs: RunService,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    key: RequestKey | None,
    request: Request,
    *,
    background: bool = False,
) -> FollowedRun:
    return await runs.create(
        principal,
        thread_id,
        body,
        request_id=request_id_of(request),
        trace=trace_of(request),
        background=background,
        key=key,
        headers=configurable_headers(request),
    )


#: An id counts a run's events. If the run is not resumable, each attempt begins 2^32 higher. Other
#: servers send times as ids.
_EVENT_ID = re.compile("[0-9]{1,12}")

LastEventId = Annotated[str | None, Query(max_length=65_536)]
LastEventIdHeader = Annotated[str | None, Header(alias="Last-Event-ID", max_length=65_536)]


@followed_router.get("/threads/{thread_id}/runs", response_model=list[Run])
@lists
async def list_runs(
    thread_id: PathThreadId,
    principal: CurrentPrincipal,
    runs: Runs,
    status: Annotated[RunStatus | None, Query()] = None,
    select: QueryList = None,
    limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """List the runs of a thread, newest first.

    A page of large runs may have fewer than `limit`. The answer then has the header
    `X-Pagination-Next`: send it as `offset` to go on, or `select` fields without `kwargs` and
    `metadata`.
    """
    fields = words_of(select, "select", get_args(RunField))
    reading = runs.reading()
    page = await runs.search(
        principal,
        thread_id,
        status=status,
        limit=limit,
        offset=offset,
        reading=reading,
        without={"kwargs", "metadata"}.difference(fields) if fields else (),
    )
    shown = [Run.from_row(row).__dict__ for row in page.rows]
    if fields:
        shown = [{field: run[field] for field in fields} for run in shown]
    return held_response(shown, reading, headers=next_page(page, offset))


@followed_router.get("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def get_run(
    thread_id: PathThreadId, run_id: PathRunId, principal: CurrentPrincipal, runs: Runs
) -> Response:
    """Read a run."""
    row = await runs.get(principal, thread_id, run_id_from(run_id))
    return json_response(Run.from_row(row).__dict__)


@followed_router.get(
    "/threads/{thread_id}/runs/{run_id}/join", responses=JSON, response_class=Response
)
@lasting
async def join_run(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Wait for a run and return the last values."""
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@followed_router.get("/runs/{run_id}/join", responses=JSON, response_class=Response)
@lasting
async def join_run_by_id(
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Wait for a run, by run id alone, and return the last values."""
    run = await runs.follow(principal, None, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@followed_router.get(
    "/threads/{thread_id}/runs/{run_id}/stream", responses=SSE, response_class=Response
)
@lasting
async def join_stream(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    stream_mode: QueryList = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> Response:
    """Stream the events of a run.

    Without `Last-Event-ID` the stream has the events to come; with it, the events after that id.
    With -1, or an id that no run here has sent, it has all events from the first.
    """
    after = _event_id(last_event_id_header or last_event_id)
    modes = words_of(stream_mode, "stream_mode", STREAM_MODES)
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


@followed_router.get("/runs/{run_id}/stream", responses=SSE, response_class=Response)
@lasting
async def join_stream_by_id(
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    stream_mode: QueryList = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> Response:
    """Stream the events of a run, by run id alone."""
    after = _event_id(last_event_id_header or last_event_id)
    modes = words_of(stream_mode, "stream_mode", STREAM_MODES)
    run = await runs.follow(principal, None, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


def words_of(given: list[str] | None, name: str, known: tuple[Any, ...]) -> list[str]:
    """The words of a query parameter.

    :raises InvalidRequest: a word is not one of ``known``.
    """
    words = query_values(given, name)
    if unknown := [word for word in words if word not in known]:
        raise InvalidRequest(f"{name}: '{unknown[0]}' is not one of {', '.join(known)}")
    return words


def _event_id(given: str | None) -> int | None:
    """The id after which events are wanted; -1 (from the start) for an id that no run here sends.

    A client may have kept an id of another server. It then gets more events than it has missed,
    never fewer.
    """
    if not given:
        return None
    return int(given) if _EVENT_ID.fullmatch(given) else -1


def _policy(cancel_on_disconnect: bool) -> str | None:
    return "cancel" if cancel_on_disconnect else None


_STOPPED: dict[str, Any] = {
    "description": "The run has stopped (`wait`)",
    "content": {"application/json": {}},
}

#: How long a delete waits for a run to stop; a cancelled graph has less time to clean up.
_STOP_SECONDS = 10.0

#: Most graphs stop within this time. Then the thread is free, and shown as free, when the client
#: gets the answer.
_MOMENT_SECONDS = 0.25


@making_router.post(
    "/threads/{thread_id}/runs/{run_id}/cancel",
    responses={200: _STOPPED, 202: {"description": "The run was asked to stop"}},
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

    202: the run was asked to stop, and is shown as `interrupted` from now on; with
    `action=rollback` it is not shown any more. With `wait` the answer is 200 and `{}`, once the run
    has stopped.
    """
    run = await runs.cancel(principal, thread_id, run_id_from(run_id), action)
    if wait:
        return stopping_response(run, request)
    with suppress(FollowingStopped):
        await run.outcome(_MOMENT_SECONDS)
    return Response(status_code=202)


@making_router.post("/runs/cancel", status_code=204, response_class=Response)
@changes
async def cancel_runs(
    body: RunsCancel,
    principal: CurrentPrincipal,
    runs: Runs,
    action: Annotated[CancelAction, Query()] = "interrupt",
) -> Response:
    """Stop several runs: the named ones, or all that have a status."""
    await runs.cancel_many(principal, body, action)
    return Response(status_code=204)


@making_router.delete(
    "/threads/{thread_id}/runs/{run_id}", status_code=204, response_class=Response
)
async def delete_run(
    thread_id: PathThreadId, run_id: PathRunId, principal: CurrentPrincipal, runs: Runs
) -> Response:
    """Delete a run; one that has not ended is stopped first."""
    await runs.delete(principal, thread_id, run_id_from(run_id), timeout_seconds=_STOP_SECONDS)
    return Response(status_code=204)


router = APIRouter()
for _router in (making_router, followed_router):
    router.routes.extend(_router.routes)
