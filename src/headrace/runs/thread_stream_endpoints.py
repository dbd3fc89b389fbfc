"""The route that streams all runs of a thread."""

from typing import Annotated

from fastapi import Header, Query, Request, Response

from headrace.edge.access import ThreadReader
from headrace.edge.gates import lasting_of_thread
from headrace.edge.head_requests import headers_alone
from headrace.edge.query_lists import QueryList, query_values
from headrace.edge.requests import end_turn
from headrace.edge.routing import new_router
from headrace.edge.state import provided, state_of
from headrace.edge.streaming import StreamResponse
from headrace.errors import InvalidRequest
from headrace.events.sse import CONTENT_TYPE
from headrace.runs.responses import SSE
from headrace.runs.thread_stream import THREAD_STREAM_MODES, ThreadStreams, last_seen
from headrace.threads.endpoints import PathThreadId
from headrace.threads.service import ThreadService

router = new_router(tag="threads")


Streams = Annotated[ThreadStreams, provided(ThreadStreams)]


@router.get("/threads/{thread_id}/stream", responses=SSE, response_class=Response)
@lasting_of_thread
async def join_thread_stream(
    thread_id: PathThreadId,
    principal: ThreadReader,
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

    Without `Last-Event-ID` the stream has the events to come; with an id, the events after it; with
    -1, all stored events. The stream does not end by itself.
    """
    modes = query_values(stream_mode, "stream_mode") + query_values(stream_modes, "stream_modes")
    if unknown := [mode for mode in modes if mode not in THREAD_STREAM_MODES]:
        raise InvalidRequest(
            f"Invalid stream mode: {unknown[0]}; there are {', '.join(THREAD_STREAM_MODES)}"
        )
    seen = last_seen(last_event_id_header or last_event_id)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if head := headers_alone(request, media_type=CONTENT_TYPE, headers=headers):
        await state_of(request).get(ThreadService).get(principal, thread_id)
        return head
    stream = await streams.open(principal, thread_id, modes, seen)
    end_turn(request)
    return StreamResponse(
        stream.frames(),
        media_type=CONTENT_TYPE,
        headers=headers,
        on_disconnect=stream.close,
        ending=stream.ending,
        endless=True,
    )
