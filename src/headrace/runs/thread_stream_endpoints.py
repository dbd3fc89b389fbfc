"""A thread's runs as one stream over HTTP."""

from typing import Annotated, cast

from fastapi import Depends, Header, Query, Request, Response

from headrace.auth.dependencies import CurrentPrincipal
from headrace.edge.gates import lasting_of_thread
from headrace.edge.head_requests import headers_alone
from headrace.edge.query_lists import QueryList, query_values
from headrace.edge.routing import new_router
from headrace.edge.state import state_of
from headrace.edge.streaming import StreamResponse
from headrace.errors import InvalidRequest
from headrace.events.sse import CONTENT_TYPE
from headrace.runs.responses import SSE
from headrace.runs.thread_stream import THREAD_STREAM_MODES, ThreadStreams, last_seen
from headrace.threads.paths import PathThreadId

router = new_router(tag="threads")


async def _service(request: Request) -> ThreadStreams:
    return cast("ThreadStreams", state_of(request).thread_streams)


Streams = Annotated[ThreadStreams, Depends(_service)]


@router.get("/threads/{thread_id}/stream", responses=SSE, response_class=Response)
@lasting_of_thread
async def join_thread_stream(
    thread_id: PathThreadId,
    principal: CurrentPrincipal,
    streams: Streams,
    request: Request,
    stream_mode: QueryList = None,
    stream_modes: QueryList = None,
    last_event_id: Annotated[str | None, Query(max_length=65_536)] = None,
    last_event_id_header: Annotated[
        str | None, Header(alias="Last-Event-ID", max_length=65_536)
    ] = None,
) -> Response:
    """Stream the events of all runs of a thread.

    Those to come; with an id those after it; with -1 all that are kept. The stream has no end.
    """
    modes = query_values(stream_mode, "stream_mode") + query_values(stream_modes, "stream_modes")
    if unknown := [mode for mode in modes if mode not in THREAD_STREAM_MODES]:
        raise InvalidRequest(
            f"Invalid stream mode: {unknown[0]}; there are {', '.join(THREAD_STREAM_MODES)}"
        )
    seen = last_seen(last_event_id_header or last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if head := headers_alone(request, media_type=CONTENT_TYPE, headers=headers):
        await state_of(request).threads.get(principal, thread_id)
        return head
    stream = await streams.open(principal, thread_id, modes, seen)
    return StreamResponse(
        stream.frames(),
        media_type=CONTENT_TYPE,
        headers=headers,
        on_disconnect=stream.close,
    )
