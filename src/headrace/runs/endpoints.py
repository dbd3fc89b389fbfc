"""Runs over HTTP: all their routes, and here those that read and join."""

import re
from typing import Annotated, Any, get_args

from fastapi import APIRouter, Header, Query, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.checkpoints.row_pages import next_page
from headrace.edge.places import lasting, lists
from headrace.edge.responses import held_response, json_response
from headrace.edge.routing import new_router
from headrace.edge.words import Words, words_in
from headrace.errors import InvalidRequest
from headrace.events.modes import STREAM_MODES
from headrace.runs import controlling, creating
from headrace.runs.answers import JSON, SSE, Runs, streaming_response, waiting_response
from headrace.runs.paths import PathRunId
from headrace.runs.schemas import Run, RunField, RunStatus
from headrace.runs.service import run_id_from
from headrace.threads.paths import PathThreadId

reading_router = new_router(tag="runs", followed=True)

#: Ids count a run's events; each attempt begins 2^32 further. Other servers' ids are times.
_EVENT_ID = re.compile("[0-9]{1,12}")

LastEventId = Annotated[str | None, Query(max_length=65_536)]
LastEventIdHeader = Annotated[str | None, Header(alias="Last-Event-ID", max_length=65_536)]


@reading_router.get("/threads/{thread_id}/runs", response_model=list[Run])
@lists
async def list_runs(
    thread_id: PathThreadId,
    principal: CurrentPrincipal,
    runs: Runs,
    status: Annotated[RunStatus | None, Query()] = None,
    select: Words = None,
    limit: Annotated[int, Query(ge=0, le=1000)] = 10,
    offset: Annotated[int, Query(ge=0, le=2**31 - 1)] = 0,
) -> Response:
    """List the runs of a thread, newest first.

    Where they are large, a page may have fewer than `limit`. `X-Pagination-Next` is there then:
    send it as `offset` to go on, or `select` fields without `kwargs` and `metadata`.
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


@reading_router.get("/threads/{thread_id}/runs/{run_id}", response_model=Run)
async def get_run(
    thread_id: PathThreadId, run_id: PathRunId, principal: CurrentPrincipal, runs: Runs
) -> Response:
    """Read a run."""
    row = await runs.get(principal, thread_id, run_id_from(run_id))
    return json_response(Run.from_row(row).__dict__)


@reading_router.get(
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
    """Wait for the end of a run and answer with the last values."""
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@reading_router.get("/runs/{run_id}/join", responses=JSON, response_class=Response)
@lasting
async def join_run_by_id(
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
) -> Response:
    """Wait for the end of a run whose thread is not known."""
    run = await runs.follow(principal, None, run_id_from(run_id))
    return await waiting_response(run, request, on_disconnect=_policy(cancel_on_disconnect))


@reading_router.get(
    "/threads/{thread_id}/runs/{run_id}/stream", responses=SSE, response_class=Response
)
@lasting
async def join_stream(
    thread_id: PathThreadId,
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    stream_mode: Words = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> Response:
    """Stream the events of a run.

    Those to come; with an id those after it; with -1, or an id that no run here has sent, all from
    the first.
    """
    after = _event_id(last_event_id_header or last_event_id)
    modes = words_of(stream_mode, "stream_mode", STREAM_MODES)
    run = await runs.follow(principal, thread_id, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


@reading_router.get("/runs/{run_id}/stream", responses=SSE, response_class=Response)
@lasting
async def join_stream_by_id(
    run_id: PathRunId,
    principal: CurrentPrincipal,
    runs: Runs,
    request: Request,
    stream_mode: Words = None,
    cancel_on_disconnect: Annotated[bool, Query()] = False,
    last_event_id: LastEventId = None,
    last_event_id_header: LastEventIdHeader = None,
) -> Response:
    """Stream the events of a run whose thread is not known."""
    after = _event_id(last_event_id_header or last_event_id)
    modes = words_of(stream_mode, "stream_mode", STREAM_MODES)
    run = await runs.follow(principal, None, run_id_from(run_id))
    return streaming_response(
        run, request, on_disconnect=_policy(cancel_on_disconnect), after=after, modes=modes
    )


def words_of(given: list[str] | None, name: str, known: tuple[Any, ...]) -> list[str]:
    """
    :raises InvalidRequest: a word that is not known.
    """
    words = words_in(given, name)
    if unknown := [word for word in words if word not in known]:
        raise InvalidRequest(f"{name}: '{unknown[0]}' is none of {', '.join(known)}")
    return words


def _event_id(given: str | None) -> int | None:
    """The id after which events are wanted; -1, from the start, for one that no run here has sent.

    Clients keep ids of other servers: they get more than they have missed, and never less.
    """
    if not given:
        return None
    return int(given) if _EVENT_ID.fullmatch(given) else -1


def _policy(cancel_on_disconnect: bool) -> str | None:
    return "cancel" if cancel_on_disconnect else None


router = APIRouter()
for _router in (creating.router, controlling.router, reading_router):
    router.include_router(_router)
