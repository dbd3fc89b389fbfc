"""Responses about a run: last values or a stream of events, and the paths to read it again."""

from collections.abc import AsyncGenerator, Callable, Collection
from functools import partial
from typing import Annotated, Any, Protocol
from urllib.parse import quote

from fastapi import Request, Response

from headrace.edge.departures import ClientLeft, unless_left
from headrace.edge.exchange import exchange_of
from headrace.edge.head_requests import headers_alone
from headrace.edge.requests import end_turn
from headrace.edge.state import provided, state_of
from headrace.edge.streaming import StreamResponse
from headrace.errors import RunForgotten
from headrace.events.reader import Ending, EventReader, FollowingStopped
from headrace.events.sse import CONTENT_TYPE
from headrace.following.followed_run import FollowedRun
from headrace.queue.rows import RunOutcome
from headrace.runs.response_bodies import event_frames, result_body, stopped_body
from headrace.runs.service import RunService
from headrace.settings import Settings
from headrace.unavailable_errors import Draining

JSON: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The last values, or `__error__`",
        "content": {"application/json": {}},
    }
}
SSE: dict[int | str, dict[str, Any]] = {
    200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}
}


class StreamOfRun(Protocol):
    """The body of a stream: what ``reader`` gets, and a heartbeat whenever there is nothing.

    It tells ``ending`` if it ends before the run.
    """

    def __call__(
        self, run: FollowedRun, reader: EventReader, *, heartbeat_seconds: float, ending: Ending
    ) -> AsyncGenerator[bytes, None]: ...


Runs = Annotated[RunService, provided(RunService)]


async def waiting_response(
    run: FollowedRun, request: Request, *, on_disconnect: str | None = None
) -> Response:
    """The run's values, once it has ended.

    :raises RunForgotten: an earlier try of the request has made the run, and the run is deleted.
    :raises Draining: this process ends; another one answers a retry.
    """
    headers = locations(run, "join")
    if head := headers_alone(request, media_type="application/json", headers=headers):
        return head
    _refuse_if_released(run)
    _wait_without_turn(run, request)
    if run.repeated:
        # The run may have ended long ago: wait for that before a status is sent.
        try:
            outcome = await run.outcome(_heartbeat_seconds(request))
        except FollowingStopped:
            raise Draining from None
        if outcome is not None and outcome.forgotten:
            raise RunForgotten
    return StreamResponse(
        result_body(run, heartbeat_seconds=_heartbeat_seconds(request)),
        media_type="application/json",
        headers=headers,
        on_disconnect=disconnect_policy(run, request, on_disconnect),
    )


async def outcome_for_client(run: FollowedRun, request: Request) -> RunOutcome | None:
    """How the run ended; None if the client has left, whose place must not be held: its run may go
    on for hours.

    :raises Draining: this process ends. Another one finishes the run.
    """
    try:
        while (outcome := await unless_left(run.outcome(3600), request.receive)) is None:
            pass
    except ClientLeft:
        if (exchange := exchange_of(request.scope)) is not None:
            exchange.note_cut("client_left")
        return None
    except FollowingStopped:
        raise Draining from None
    return outcome


def stopping_response(run: FollowedRun, request: Request) -> StreamResponse:
    """``{}`` once the run has stopped."""
    end_turn(request)
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
    """The run's events.

    :param after: as :meth:`FollowedRun.subscribe`.
    :param modes: only events of these stream modes; empty: all.
    :raises Draining: as :func:`waiting_response`.
    """
    return told_response(
        run,
        request,
        partial(event_frames, modes=modes),
        on_disconnect=on_disconnect,
        after=after,
    )


def told_response(
    run: FollowedRun,
    request: Request,
    body: StreamOfRun,
    *,
    on_disconnect: str | None = None,
    after: int | None = None,
) -> Response:
    """As :func:`streaming_response`; ``body`` makes the stream of the run's events."""
    headers = {
        **locations(run, "stream"),
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
    }
    if head := headers_alone(request, media_type=CONTENT_TYPE, headers=headers):
        return head
    _refuse_if_released(run)
    _wait_without_turn(run, request)
    ending = Ending()
    return StreamResponse(
        body(
            run,
            run.subscribe(after),
            heartbeat_seconds=_heartbeat_seconds(request),
            ending=ending,
        ),
        media_type=CONTENT_TYPE,
        headers=headers,
        on_disconnect=disconnect_policy(run, request, on_disconnect),
        ending=ending,
    )


def _wait_without_turn(run: FollowedRun, request: Request) -> None:
    """Let another request begin, unless this one has begun the run here: then the run is its work,
    and turns bound how many short runs begin at once.
    """
    if run.local is None or run.repeated or not run.created:
        end_turn(request)


def _refuse_if_released(run: FollowedRun) -> None:
    """Refuse to follow a run that another request has made, rather than cut the answer at once."""
    if run.following.released and run.local is None and not run.created:
        raise Draining


def disconnect_policy(
    run: FollowedRun, request: Request, on_disconnect: str | None
) -> Callable[[], None]:
    """What to call when the client leaves: it stops the run if the client has asked for that."""
    if on_disconnect != "cancel":
        return lambda: None
    # Keep the service, not the request: the request is freed before the stream ends.
    runs = state_of(request).get(RunService)
    return partial(runs.cancel_soon, run, "client disconnected before the run ended")


def locations(run: FollowedRun, last: str) -> dict[str, str]:
    path = run_path(run)
    return {"Location": f"{path}/{last}", "Content-Location": path}


def run_path(run: FollowedRun) -> str:
    return f"/threads/{quote(run.thread_id, safe='')}/runs/{run.run_id}"


def _heartbeat_seconds(request: Request) -> float:
    return state_of(request).get(Settings).server.ping_seconds
