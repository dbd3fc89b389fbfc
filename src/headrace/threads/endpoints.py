"""Threads over HTTP."""

from typing import Annotated, Any, cast

from fastapi import Body, Depends, Query, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.db.tables import ThreadRow
from headrace.edge.responses import json_response
from headrace.edge.routing import new_router
from headrace.edge.state import state_of
from headrace.idempotency.requests import IdempotencyKey
from headrace.threads.schemas import AnyThreadId, Thread, ThreadCreate, ThreadState
from headrace.threads.service import ThreadService

router = new_router(tag="threads")


async def _service(request: Request) -> ThreadService:
    return cast("ThreadService", state_of(request).threads)


Threads = Annotated[ThreadService, Depends(_service)]


@router.post("/threads", response_model=Thread)
async def create_thread(
    principal: CurrentPrincipal,
    threads: Threads,
    key: IdempotencyKey,
    body: Annotated[ThreadCreate | None, Body()] = None,
) -> Response:
    """Create a thread."""
    wanted = body or ThreadCreate()
    if key is None:
        row = await threads.create(principal, wanted)
    else:
        row = await threads.create_once(principal, wanted, key)
    return json_response(_thread(row, await threads.values(row)))


@router.get("/threads/{thread_id}", response_model=Thread)
async def get_thread(
    thread_id: AnyThreadId, principal: CurrentPrincipal, threads: Threads
) -> Response:
    """One thread with its present values."""
    row = await threads.get(principal, thread_id)
    return json_response(_thread(row, await threads.values(row)))


@router.get("/threads/{thread_id}/state", response_model=ThreadState)
async def get_thread_state(
    thread_id: AnyThreadId,
    principal: CurrentPrincipal,
    threads: Threads,
    subgraphs: Annotated[bool, Query()] = False,
) -> Response:
    """The thread at its latest checkpoint."""
    state = await threads.state(principal, thread_id, subgraphs=subgraphs)
    return json_response(state.__dict__)


def _thread(row: ThreadRow, values: Any) -> dict[str, Any]:
    thread: dict[str, Any] = {
        "thread_id": row.thread_id,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "state_updated_at": row.state_updated_at or row.created_at,
        "metadata": row.metadata_,
        "status": row.status,
        "config": row.config,
        "values": values,
    }
    if row.state_updated_at is not None:
        thread["error"] = row.error
        thread["interrupts"] = row.interrupts or {}
    return thread
