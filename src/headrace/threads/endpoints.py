"""Routes of threads: create, search, read, update, copy, prune and delete."""

from typing import Annotated, Any

from fastapi import Body, Depends, Header, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.access import PAGE, CurrentAccess, ThreadDeleter, ThreadReader
from headrace.edge.gates import changes, changes_when, lists
from headrace.edge.query_lists import QueryList
from headrace.edge.repetition import repeatable
from headrace.edge.request_keys import IdempotencyKey
from headrace.edge.responses import held_response, json_response, page_response
from headrace.edge.routing import new_router
from headrace.edge.state import provided, state_of
from headrace.errors import InvalidRequest
from headrace.threads.listing import ThreadListing
from headrace.threads.removal import ThreadRemoval
from headrace.threads.schemas import (
    AnyThreadId,
    Pruned,
    SelectedThread,
    Thread,
    ThreadCreate,
    ThreadFilter,
    ThreadPatch,
    ThreadSearch,
    ThreadsPrune,
    thread_json,
    ttl_json,
)
from headrace.threads.service import ThreadService

router = new_router(tag="threads")


Threads = Annotated[ThreadService, provided(ThreadService)]
Listing = Annotated[ThreadListing, provided(ThreadListing)]
Removal = Annotated[ThreadRemoval, provided(ThreadRemoval)]


async def _stored_id(thread_id: AnyThreadId, principal: CurrentPrincipal, request: Request) -> str:
    return await state_of(request).get(ThreadService).stored_id(principal, thread_id)


#: The id that the thread of a path is stored under. A client may spell a UUID in another way.
PathThreadId = Annotated[str, Depends(_stored_id)]


@router.post("/threads", response_model=Thread)
@changes_when(lambda values: bool(values["body"] and values["body"].supersteps))
@repeatable
async def create_thread(
    access: CurrentAccess,
    threads: Threads,
    key: IdempotencyKey,
    body: Annotated[ThreadCreate | None, Body()] = None,
) -> Response:
    """Create a thread."""
    principal, wanted = await access.to_send(
        "threads", "create", body or ThreadCreate(), ("thread_id", "if_exists", "ttl")
    )
    reader = None
    if wanted.if_exists == "do_nothing" and wanted.thread_id is not None:
        # The answer may show a thread that is there.
        reader = await access.to("threads", "read", thread_id=wanted.thread_id)
    row = await threads.create(principal, wanted, key, reader=reader)
    reading = threads.reading()
    return held_response(await threads.shown(row, reading), reading)


@router.post("/threads/search", response_model=list[SelectedThread])
@lists
@repeatable
async def search_threads(
    access: CurrentAccess,
    listing: Listing,
    threads: Threads,
    body: Annotated[ThreadSearch | None, Body()] = None,
) -> Response:
    """List threads, newest first.

    The answer has the header `X-Pagination-Next` while there are more threads. A page of large
    values may have fewer than `limit`: send the header's value as `offset` to go on.
    """
    principal, wanted = await access.to_send(
        "threads", "search", body or ThreadSearch(), ("values", "status", "limit", "offset", "ids")
    )
    if wanted.ids:
        wanted.ids = await threads.stored_ids(principal, wanted.ids)
    page = await listing.search(principal, wanted)
    headers = {"X-Pagination-Total": str(page.total)}
    if page.next_offset is not None:
        headers["X-Pagination-Next"] = str(page.next_offset)
    return page_response(page.items, page.reading, headers=headers)


@router.post("/threads/count", response_model=int)
@lists
@repeatable
async def count_threads(
    access: CurrentAccess,
    listing: Listing,
    threads: Threads,
    body: Annotated[ThreadFilter | None, Body()] = None,
) -> Response:
    """Count the threads that match a filter."""
    principal, wanted = await access.to_send(
        "threads",
        "search",
        body or ThreadFilter(),
        ("values", "status", "ids"),
        unheeded=PAGE,
        limit=None,
        offset=0,
    )
    if wanted.ids:
        wanted.ids = await threads.stored_ids(principal, wanted.ids)
    return json_response(await listing.count(principal, wanted))


@router.post("/threads/prune", response_model=Pruned)
@changes
@repeatable
async def prune_threads(
    access: CurrentAccess, removal: Removal, threads: Threads, body: ThreadsPrune
) -> Response:
    """Delete threads, or with `keep_latest` all checkpoints but the latest of each."""
    body.thread_ids = await threads.stored_ids(access.principal, body.thread_ids)
    pruned = 0
    for principal, thread_ids in await access.to_each("threads", "delete", body.thread_ids):
        part = body.model_copy(update={"thread_ids": thread_ids})
        pruned += await removal.prune(principal, part)
    return json_response({"pruned_count": pruned})


@router.get("/threads/{thread_id}", response_model=Thread)
async def get_thread(
    thread_id: PathThreadId,
    principal: ThreadReader,
    threads: Threads,
    include: QueryList = None,
) -> Response:
    """Read a thread with the present values.

    With `include=ttl` the answer has the thread's time to live, if there is one.
    """
    wanted = {word for words in include or [] for word in words.split(",") if word}
    if unknown := wanted - {"ttl"}:
        raise InvalidRequest(f"include: '{min(unknown)}' is not one of ttl")
    row = await threads.get(principal, thread_id)
    reading = threads.reading()
    thread = await threads.shown(row, reading)
    if "ttl" in wanted and (ttl := ttl_json(row)) is not None:
        thread["ttl"] = ttl
    return held_response(thread, reading)


@router.patch(
    "/threads/{thread_id}",
    response_model=Thread,
    responses={204: {"description": "The thread has changed (`Prefer: return=minimal`)"}},
)
@repeatable
async def update_thread(
    thread_id: PathThreadId,
    access: CurrentAccess,
    threads: Threads,
    body: ThreadPatch,
    prefer: Annotated[str, Header(max_length=1000)] = "",
) -> Response:
    """Merge metadata into a thread, or give the thread a time to live."""
    principal, body = await access.to_send("threads", "update", body, ())
    row = await threads.update(principal, thread_id, body)
    if "return=minimal" in prefer:
        return Response(status_code=204)
    reading = threads.reading()
    return held_response(await threads.shown(row, reading), reading)


@router.delete("/threads/{thread_id}", status_code=204, response_class=Response)
@changes
@repeatable
async def delete_thread(
    thread_id: PathThreadId, principal: ThreadDeleter, removal: Removal
) -> Response:
    """Delete a thread with all runs and checkpoints; unfinished runs are stopped."""
    await removal.delete(principal, thread_id)
    return Response(status_code=204)


@router.post("/threads/{thread_id}/copy", response_model=Thread)
@changes
@repeatable
async def copy_thread(
    thread_id: PathThreadId,
    access: CurrentAccess,
    threads: Threads,
    key: IdempotencyKey,
) -> Response:
    """Copy a thread with the whole history."""
    # The copy gets an id of its own.
    _, made = await access.to_send(
        "threads", "create", ThreadCreate(), (), thread_id=None, if_exists=None
    )
    principal = await access.to("threads", "read")
    row = await threads.copy(principal, thread_id, key, metadata=made.metadata)
    copy: dict[str, Any] = thread_json(row, None)
    del copy["values"]
    return json_response(copy)
