"""Runs over HTTP."""

from collections.abc import Callable
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import Depends, Query, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.live import LiveResponse
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import request_id_of, state_of
from headrace.events.sse import CONTENT_TYPE
from headrace.runs.dispatcher import FollowedRun
from headrace.runs.schemas import Run, RunCreate, RunStatus
from headrace.runs.service import RunService, run_id_from
from headrace.runs.stream import event_frames, result_body
from headrace.threads.schemas import AnyThreadId

router = new_router(tag="runs")

_JSON: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Its last values, or `__error__`",
        "content": {"application/json": {}},
    }
}
_SSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


async def _service(request: Request) -> RunService:
    return cast("RunService", state_of(request).runs)


Runs = Annotated[RunService, Depends(_service)]


@router.post("/threads/{thread_id}/runs/wait", responses=_JSON, response_class=Response)
async def wait_run(
    thread_id: AnyThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
) -> Response:
    """Run on a thread and answer with its last values."""
    run = await runs.start(principal, thread_id, body, request_id=request_id_of(request))
    return waiting_response(run, body, request)


@router.post("/runs/wait", responses=_JSON, response_class=Response)
async def wait_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, request: Request
) -> Response:
    """Run without a thread and answer with its last values."""
    run = await runs.start(principal, None, body, request_id=request_id_of(request))
    return waiting_response(run, body, request)


@router.post("/threads/{thread_id}/runs/stream", responses=_SSE, response_class=Response)
async def stream_run(
    thread_id: AnyThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
) -> Response:
    """Run on a thread and stream its events."""
    run = await runs.start(principal, thread_id, body, request_id=request_id_of(request))
    return streaming_response(run, body, request)


@router.post("/runs/stream", responses=_SSE, response_class=Response)
async def stream_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, request: Request
) -> Response:
    """Run without a thread and stream its events."""
    run = await runs.start(principal, None, body, request_id=request_id_of(request))
    return streaming_response(run, body, request)


@router.get("/threads/{thread_id}/runs", response_model=list[Run])
async def list_runs(
    thread_id: AnyThreadId,
    principal: CurrentPrincipal,
    runs: Runs,
    status: Annotated[RunStatus | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """Runs of a thread, newest first."""
    rows = await runs.search(principal, thread_id, status=status, limit=limit, offset=offset)
    return json_response([Run.from_row(row).__dict__ for row in rows])


@router.get("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def get_run(
    thread_id: AnyThreadId, run_id: str, principal: CurrentPrincipal, runs: Runs
) -> Response:
    """One run."""
    row = await runs.get(principal, thread_id, run_id_from(run_id))
    return json_response(Run.from_row(row).__dict__)


def waiting_response(run: FollowedRun, body: RunCreate, request: Request) -> LiveResponse:
    return LiveResponse(
        result_body(run, heartbeat_seconds=_heartbeat_seconds(request)),
        media_type="application/json",
        headers=locations(run, "join"),
        on_disconnect=disconnect_policy(run, body.on_disconnect),
    )


def streaming_response(run: FollowedRun, body: RunCreate, request: Request) -> LiveResponse:
    return LiveResponse(
        event_frames(
            run,
            run.subscribe(),
            heartbeat_seconds=_heartbeat_seconds(request),
            on_cut=state_of(request).metrics.count_cut_client,
        ),
        media_type=CONTENT_TYPE,
        headers={
            **locations(run, "stream"),
            "Cache-Control": "no-store",
            "X-Accel-Buffering": "no",
        },
        on_disconnect=disconnect_policy(run, body.on_disconnect),
    )


def disconnect_policy(run: FollowedRun, on_disconnect: str | None) -> Callable[[], None]:
    """What a client's leaving means for its run; without a word from it, nothing."""

    def cancel() -> None:
        run.cancel("client disconnected before the run ended")

    return cancel if on_disconnect == "cancel" else lambda: None


def locations(run: FollowedRun, last: str) -> dict[str, str]:
    path = f"/threads/{quote(run.thread_id, safe='')}/runs/{run.run_id}"
    return {"Location": f"{path}/{last}", "Content-Location": path}


def _heartbeat_seconds(request: Request) -> float:
    return cast("float", state_of(request).settings.server.heartbeat_seconds)
