"""The routes that read runs: list, get, join and stream. ``Location`` headers point to them."""

import re
from typing import Annotated, Any, get_args

from fastapi import Header, Path, Query, Request, Response

from headrace.checkpoints.row_pages import next_page
from headrace.edge.access import Access, CurrentAccess, ThreadReader
from headrace.edge.gates import lasting, lists
from headrace.edge.query_lists import QueryList, query_values
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.errors import InvalidRequest
from headrace.events.modes import STREAM_MODES
from headrace.runs.responses import JSON, SSE, Runs, streaming_response, waiting_response
from headrace.runs.schemas import Run, RunField, RunPage, RunStatus
from headrace.runs.service import run_id_from
from headrace.threads.endpoints import PathThreadId

router = new_router(tag="runs", followed=True)

#: As the client writes it; :func:`headrace.runs.service.run_id_from` checks it.
PathRunId = Annotated[str, Path(max_length=255)]

#: An id counts a run's events. If the run is not resumable, each attempt begins 2^32 higher. Other
#: servers send times as ids.
_EVENT_ID = re.compile("[0-9]{1,12}")

LastEventId = Annotated[str | None, Query(max_length=65_536)]
LastEventIdHeader = Annotated[str | None, Header(alias="Last-Event-ID", max_length=65_536)]


@router.get("/threads/{thread_id}/runs", response_model=list[Run])
@lists
async def list_runs(
    thread_id: PathThreadId,
    reader: ThreadReader,
    access: CurrentAccess,
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
    fields = _words_of(select, "select", get_args(RunField))
    principal, wanted = await access.to_send(
        "threads",
        "search",
        RunPage(limit=limit, offset=offset),
        ("limit", "offset"),
        metadata={},
        values=None,
        status=None,
    )
    if principal != reader:
        await runs.see_thread(reader, thread_id)
    reading = runs.reading()
    page = await runs.search(
        principal,
        thread_id,
        status=status,
        limit=wanted.limit,
        offset=wanted.offset,
        reading=reading,
        without={"kwargs", "metadata"}.difference(fields) if fields else (),
    )
    shown = [Run.from_row(row).__dict__ for row in page.rows]
    if fields:
        shown = [{field: run[field] for field in fields} for run in shown]
    return held_response(shown, reading, headers=next_page(page, wanted.offset))


@router.get("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def get_run(
    thread_id: PathThreadId, run_id: PathRunId, principal: ThreadReader, runs: Runs
) -> Response:
    """Read a run."""
    row = await runs.get(principal, thread_id, run_id_from(run_id))
    return json_response(Run.from_row(row).__dict__)


@router.get("/threads/{thread_id}/runs/{run_id}/join", responses=JSON, response_class=Response)
@lasting
async def join_run(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: ThreadReader,
    access: CurrentAccess,
    runs: Runs,
    request: Request,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Wait for a run and return the last values."""
    if cancel_on_disconnect:
        await _see_to_stop(access, runs, thread_id, run_id)
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@router.get("/runs/{run_id}/join", responses=JSON, response_class=Response)
@lasting
async def join_run_by_id(
    run_id: PathRunId,
    principal: ThreadReader,
    access: CurrentAccess,
    runs: Runs,
    request: Request,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Wait for a run, by run id alone, and return the last values."""
    if cancel_on_disconnect:
        await _see_to_stop(access, runs, None, run_id)
    run = await runs.follow(principal, None, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@router.get("/threads/{thread_id}/runs/{run_id}/stream", responses=SSE, response_class=Response)
@lasting
async def join_stream(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: ThreadReader,
    access: CurrentAccess,
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
    modes = _words_of(stream_mode, "stream_mode", STREAM_MODES)
    if cancel_on_disconnect:
        await _see_to_stop(access, runs, thread_id, run_id)
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


@router.get("/runs/{run_id}/stream", responses=SSE, response_class=Response)
@lasting
async def join_stream_by_id(
    run_id: PathRunId,
    principal: ThreadReader,
    access: CurrentAccess,
    runs: Runs,
    request: Request,
    stream_mode: QueryList = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> Response:
    """Stream the events of a run, by run id alone."""
    after = _event_id(last_event_id_header or last_event_id)
    modes = _words_of(stream_mode, "stream_mode", STREAM_MODES)
    if cancel_on_disconnect:
        await _see_to_stop(access, runs, None, run_id)
    run = await runs.follow(principal, None, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


def _words_of(given: list[str] | None, name: str, known: tuple[Any, ...]) -> list[str]:
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


async def _see_to_stop(access: Access, runs: Runs, thread_id: str | None, run_id: str) -> None:
    """:raises RequestError: a caller that may only read would stop the run."""
    principal = await access.to("threads", "update", action="interrupt")
    if principal.filter:
        await runs.get(principal, thread_id, run_id_from(run_id))


def _policy(cancel_on_disconnect: bool) -> str | None:
    return "cancel" if cancel_on_disconnect else None
