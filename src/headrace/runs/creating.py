"""Making runs over HTTP: to wait for, to stream, or for the background."""

from typing import Annotated, Any

from fastapi import Body, Request, Response
from pydantic import Field

from headrace.auth.dependencies import CurrentPrincipal
from headrace.auth.principal import Principal
from headrace.edge.headers import configurable_headers
from headrace.edge.places import lasting
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import request_id_of
from headrace.idempotency.requests import IdempotencyKey
from headrace.idempotency.schemas import RequestKey
from headrace.runs.answers import JSON, SSE, Runs, run_path, streaming_response, waiting_response
from headrace.runs.dispatcher import FollowedRun
from headrace.runs.schemas import Run, RunCreate
from headrace.runs.service import RunService
from headrace.threads.paths import PathThreadId

router = new_router(tag="runs")

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
) -> Response:
    """Run on a thread and answer with the last values."""
    run = await _start(runs, principal, thread_id, body, key, request)
    return await waiting_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/runs/wait", responses=JSON, response_class=Response)
@lasting
async def wait_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Run without a thread and answer with the last values."""
    run = await _start(runs, principal, None, body, key, request)
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
) -> Response:
    """Run on a thread and stream the events."""
    run = await _start(runs, principal, thread_id, body, key, request)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/runs/stream", responses=SSE, response_class=Response)
@lasting
async def stream_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Run without a thread and stream the events."""
    run = await _start(runs, principal, None, body, key, request)
    return streaming_response(run, request, on_disconnect=body.on_disconnect)


@router.post("/threads/{thread_id}/runs", response_model=Run)
async def create_run(
    thread_id: PathThreadId,
    body: RunCreate,
    principal: CurrentPrincipal,
    runs: Runs,
    key: IdempotencyKey,
    request: Request,
) -> Response:
    """Run on a thread, in the background."""
    run, shown = await _in_background(runs, principal, thread_id, body, key, request)
    return json_response(shown, headers={"Content-Location": run_path(run)})


@router.post("/runs", response_model=Run)
async def create_stateless_run(
    body: RunCreate, principal: CurrentPrincipal, runs: Runs, key: IdempotencyKey, request: Request
) -> Response:
    """Run without a thread, in the background."""
    run, shown = await _in_background(runs, principal, None, body, key, request)
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
    """Run several inputs without threads, in the background."""
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
    run = await _start(runs, principal, thread_id, body, key, request, background=True)
    row = await runs.get(principal, run.thread_id, run.run_id)
    return run, Run.from_row(row).__dict__


async def _start(
    runs: RunService,
    principal: Principal,
    thread_id: str | None,
    body: RunCreate,
    key: RequestKey | None,
    request: Request,
    *,
    background: bool = False,
) -> FollowedRun:
    return await runs.start(
        principal,
        thread_id,
        body,
        request_id=request_id_of(request),
        background=background,
        key=key,
        headers=configurable_headers(request),
    )
