"""What the endpoints of all doors share: the caller of a request, and streams in their forms."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from fastapi import Request, Response

from headrace.auth.principal import Principal
from headrace.doors.callers import DoorCaller
from headrace.doors.json_rpc import id_of
from headrace.edge.request_traces import trace_of
from headrace.edge.requests import end_turn
from headrace.edge.state import configurable_headers, request_id_of
from headrace.errors import MalformedJSON, RequestError
from headrace.events.event import Event
from headrace.events.reader import CutReason, Ending, EventReader, FollowingStopped
from headrace.events.reader_buffers import BrokenOff, Cut
from headrace.events.sse import HEARTBEAT, frame
from headrace.following.followed_run import FollowedRun
from headrace.idempotency.schemas import RequestKey
from headrace.queue.rows import RunOutcome
from headrace.runs.response_bodies import paced_chunks
from headrace.runs.responses import told_response
from headrace.runs.service import RunService
from headrace.unavailable_errors import Draining


def door_caller(request: Request, principal: Principal, key: RequestKey | None) -> DoorCaller:
    """The caller of this request."""
    return DoorCaller(
        principal, request_id_of(request), trace_of(request), key, configurable_headers(request)
    )


def let_others_begin(request: Request, runs: RunService, principal: Principal) -> None:
    """Give the turn of the request back if its run would wait for a place."""
    if runs.waits_for_place(principal):
        end_turn(request)


class DoorTelling(Protocol):
    """Puts the events of a run into the form of a door."""

    def frames(self, events: Sequence[Event]) -> list[bytes]:
        """What to send for these events. The last ones of a run end the stream."""

    def cut(self, reason: CutReason) -> bytes:
        """The last thing to send when the stream ends before the run."""


def door_stream(
    run: FollowedRun, request: Request, telling: DoorTelling, *, on_disconnect: str | None
) -> Response:
    """The run's events in the form of a door."""

    def body(
        run: FollowedRun, reader: EventReader, *, heartbeat_seconds: float, ending: Ending
    ) -> AsyncGenerator[bytes, None]:
        return _told(run, reader, telling, heartbeat_seconds, ending)

    return told_response(run, request, body, on_disconnect=on_disconnect)


async def _told(
    run: FollowedRun,
    reader: EventReader,
    telling: DoorTelling,
    heartbeat_seconds: float,
    ending: Ending,
) -> AsyncGenerator[bytes, None]:
    frames: Callable[[Sequence[Event]], list[bytes]] = telling.frames
    try:
        async with aclosing(paced_chunks(reader, frames, heartbeat_seconds)) as chunks:
            async for chunk in chunks:
                yield chunk
    except BrokenOff:
        # Half a frame must not look like a whole one.
        raise FollowingStopped("slow_client") from None
    except Cut:
        yield telling.cut("slow_client")
    except FollowingStopped as stopped:
        # These clients know no way to read on: tell them that the reply is not whole.
        ending.note(stopped.reason)
        yield telling.cut(stopped.reason)
    finally:
        if reader.was_cut:
            ending.note("slow_client")
        run.unsubscribe(reader)


def ending_stream(
    run: FollowedRun,
    request: Request,
    last: Callable[[RunOutcome], bytes],
    refused: Callable[[RequestError], bytes],
) -> Response:
    """A stream with one message: the end of the run. Before it come heartbeats.

    The run stops when the client leaves: nobody else knows of it.

    :param last: the message for the end of the run.
    :param refused: the message where the end cannot be told here.
    """

    async def body(
        run: FollowedRun, reader: EventReader, *, heartbeat_seconds: float, ending: Ending
    ) -> AsyncGenerator[bytes, None]:
        run.unsubscribe(reader)
        try:
            while (outcome := await run.outcome(heartbeat_seconds)) is None:
                yield HEARTBEAT
            message = last(outcome)
        except RequestError as error:
            message = refused(error)
        except FollowingStopped as stopped:
            ending.note(stopped.reason)
            message = refused(Draining())
        yield frame("message", message)

    return told_response(run, request, body, on_disconnect="cancel")


async def take_body(request: Request, body: Any) -> None:
    """The body of the request is read: from now on refusals repeat its id.

    :raises MalformedJSON: there is no body.
    """
    # None is JSON's null too, which is a body, though not that of a call.
    if body is None and not await request.body():
        raise MalformedJSON("The request has no body; send a JSON-RPC call.")
    request.state.headrace_rpc_id = id_of(body)


def noted_id(request: Request) -> Any:
    """The id that a refusal repeats; None if the body was not read, or has none."""
    return getattr(request.state, "headrace_rpc_id", None)
