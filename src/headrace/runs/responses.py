"""What runs are answered with: their result, their events, and where to find them again."""

from collections.abc import Callable, Collection
from typing import Annotated, Any, cast
from urllib.parse import quote

from fastapi import Depends, Request, Response

from headrace.edge.head_requests import headers_alone
from headrace.edge.state import state_of
from headrace.edge.streaming import StreamResponse
from headrace.errors import RunForgotten
from headrace.events.sse import CONTENT_TYPE
from headrace.queue.rows import FollowedRun
from headrace.runs.response_bodies import event_frames, result_body, stopped_body
from headrace.runs.service import RunService

JSON: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Its last values, or `__error__`",
        "content": {"application/json": {}},
    }
}
SSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


async def _service(request: Request) -> RunService:
    return cast("RunService", state_of(request).runs)


Runs = Annotated[RunService, Depends(_service)]


async def waiting_response(
    run: FollowedRun, request: Request, *, on_disconnect: str | None = None
) -> Response:
    """The run's values, once it has ended.

    :raises RunForgotten: an earlier try of the request has made it, and it is gone.
    """
    headers = locations(run, "join")
    if head := headers_alone(request, media_type="application/json", headers=headers):
        return head
    if run.repeated:
        # It may have ended long ago: its status is not sent before that is known.
        outcome = await run.outcome(_heartbeat_seconds(request))
        if outcome is not None and outcome.forgotten:
            raise RunForgotten
    return StreamResponse(
        result_body(run, heartbeat_seconds=_heartbeat_seconds(request)),
        media_type="application/json",
        headers=headers,
        on_disconnect=disconnect_policy(run, on_disconnect),
    )


def stopping_response(run: FollowedRun, request: Request) -> StreamResponse:
    """``{}`` once the run has stopped."""
    return StreamResponse(
        stopped_body(run, heartbeat_seconds=_heartbeat_seconds(request)),
        media_type="application/json",
        headers=locations(run, "join"),
        on_disconnect=lambda: None,
    )


def streaming_response(
    run: FollowedRun,
    request: Request,
    *,
    on_disconnect: str | None = None,
    after: int | None = None,
    modes: Collection[str] = (),
) -> Response:
    headers = {
        **locations(run, "stream"),
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    if head := headers_alone(request, media_type=CONTENT_TYPE, headers=headers):
        return head
    return StreamResponse(
        event_frames(
            run,
            run.subscribe(after),
            heartbeat_seconds=_heartbeat_seconds(request),
            modes=modes,
        ),
        media_type=CONTENT_TYPE,
        headers=headers,
        on_disconnect=disconnect_policy(run, on_disconnect),
    )


def disconnect_policy(run: FollowedRun, on_disconnect: str | None) -> Callable[[], None]:
    """What a client's leaving means for its run; without a word from it, nothing."""

    def cancel() -> None:
        run.cancel("client disconnected before the run ended")

    return cancel if on_disconnect == "cancel" else lambda: None


def locations(run: FollowedRun, last: str) -> dict[str, str]:
    path = run_path(run)
    return {"Location": f"{path}/{last}", "Content-Location": path}


def run_path(run: FollowedRun) -> str:
    return f"/threads/{quote(run.thread_id, safe='')}/runs/{run.run_id}"


def _heartbeat_seconds(request: Request) -> float:
    return cast("float", state_of(request).settings.server.heartbeat_seconds)
