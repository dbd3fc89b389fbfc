"""Bodies of responses about a run: events as server-sent events, or the values as one JSON body."""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing
from time import monotonic

import orjson

from headrace.edge.responses import gathered
from headrace.edge.streaming import LastChunk, RefusalChunk
from headrace.errors import AnswerTooLarge, RequestError
from headrace.events.event import Event
from headrace.events.json_encoding import encode_json, json_pieces, sliced
from headrace.events.reader import Ending, EventReader, FollowingStopped
from headrace.events.reader_buffers import BrokenOff, Cut
from headrace.events.sse import HEARTBEAT, RELEASED
from headrace.following.followed_run import FollowedRun
from headrace.queue.rows import RunOutcome
from headrace.unavailable_errors import AnswersFull

#: Keeps proxies and load balancers from closing a quiet ``wait``; JSON readers skip white space.
WAIT_HEARTBEAT = b"\n"

_FORGOTTEN = (
    "The run has ended and is gone, with its values: it was deleted, or was a run without a thread."
)

#: How often a body tries to get memory for the values, before it says that there is none.
_TRIES = 6

#: The stream mode of ``/chat``: interrupts alone, each as an event of this name.
INTERRUPTS = "interrupts"
_ONLY_INTERRUPTS = b'{"__interrupt__":'

#: These events close the stream, so a client gets them for any modes.
_ALWAYS = ("end", "error")


async def event_frames(
    run: FollowedRun,
    reader: EventReader,
    *,
    heartbeat_seconds: float,
    modes: Collection[str] = (),
    ending: Ending | None = None,
) -> AsyncGenerator[bytes, None]:
    """The run's events that ``reader`` gets, and a heartbeat whenever there is none.

    :param modes: only events of these stream modes; empty: all.
    :param ending: is told if the stream ends before the run.
    :raises FollowingStopped: the client was cut in the midst of an event; the body must not be
        completed.
    """

    ending = ending or Ending()

    def frames(events: Sequence[Event]) -> list[bytes]:
        return [event.frame for event in _of_modes(events, modes)]

    try:
        async with aclosing(paced_chunks(reader, frames, heartbeat_seconds)) as chunks:
            async for chunk in chunks:
                yield chunk
    except BrokenOff:
        # Half an event must not look like a whole one.
        raise FollowingStopped("slow_client") from None
    except Cut:
        # The client reads on from the run's Location if it wants.
        return
    except FollowingStopped as stopped:
        ending.note(stopped.reason)
        yield RELEASED
    finally:
        # Also if the client has left meanwhile, without having taken the last chunk.
        if reader.was_cut:
            ending.note("slow_client")
        run.unsubscribe(reader)


async def paced_chunks(
    reader: EventReader, frames: Callable[[Sequence[Event]], list[bytes]], heartbeat_seconds: float
) -> AsyncGenerator[bytes, None]:
    """Chunks of what ``reader`` gets until its end, and a heartbeat whenever there is none.

    :param frames: the frames of events that are to be sent.
    :raises Cut, BrokenOff, FollowingStopped: as :class:`EventReader`.
    """
    sent_at = monotonic()
    while (events := await reader.read(heartbeat_seconds)) is not None:
        wanted = frames(events)
        quiet = not events
        # Keep no reference here: large events must be freed when the reader is cut.
        events = ()
        for chunk in reader.pieces(wanted):
            sent_at = monotonic()
            yield chunk
        # Send a heartbeat also after events: all of them may be of other modes.
        if quiet or monotonic() - sent_at > heartbeat_seconds:
            sent_at = monotonic()
            yield HEARTBEAT


def _of_modes(events: Sequence[Event], modes: Collection[str]) -> Sequence[Event]:
    if not modes:
        return events
    # The API names LangGraph's own message chunks ``messages`` on the wire.
    wanted = {"messages" if mode == "messages-tuple" else mode for mode in modes}
    told: list[Event] = []
    for event in events:
        kind = event.name.split("|", 1)[0].split("/", 1)[0]
        # Three events have no id, and go to all modes: the end, the one that says that events are
        # missing, and the last values after it.
        if event.name in _ALWAYS or not event.event_id or kind in wanted:
            told.append(event)
        elif INTERRUPTS in modes and kind == "updates" and _interrupts(event):
            raised = orjson.loads(event.data)["__interrupt__"]
            told.append(Event.of(event.event_id, INTERRUPTS, raised, resumable=False))
    return told


def _interrupts(event: Event) -> bool:
    return event.data.startswith(_ONLY_INTERRUPTS)


async def result_body(run: FollowedRun, *, heartbeat_seconds: float) -> AsyncGenerator[bytes, None]:
    """The run's last values as JSON; before them, a newline for each heartbeat.

    :raises FollowingStopped: the body must not be completed; the client asks another process.
    """
    tries = 0
    while True:
        try:
            if (outcome := await run.outcome(heartbeat_seconds)) is not None:
                break
        except AnswersFull as refusal:
            tries += 1
            if tries == _TRIES:
                yield RefusalChunk.of(encode_json(_not_told(refusal)), refusal)
                return
        except AnswerTooLarge as refusal:
            yield RefusalChunk.of(encode_json(_not_told(refusal)), refusal)
            return
        yield WAIT_HEARTBEAT
    reading = outcome.reading
    if reading is not None and reading.held:
        with reading:
            async for piece in gathered(json_pieces(result_of(outcome))):
                yield piece
        return
    *pieces, last = sliced(encode_json(result_of(outcome)))
    for piece in pieces:
        yield piece
    yield LastChunk(last)


def _not_told(refusal: RequestError) -> dict[str, object]:
    """The body for values that cannot be sent; status 200 was sent before."""
    return {"__error__": {"error": type(refusal).__name__, "message": refusal.message}}


async def stopped_body(
    run: FollowedRun, *, heartbeat_seconds: float
) -> AsyncGenerator[bytes, None]:
    """``{}`` once the run's row says that it has ended, or the row is deleted."""
    while not await run.ended(heartbeat_seconds):
        yield WAIT_HEARTBEAT
    yield LastChunk(b"{}")


def result_of(outcome: RunOutcome) -> object:
    """The body of ``wait``: values, or ``{"__error__"}`` when the run failed."""
    if outcome.forgotten:
        return {"__error__": {"error": "RunForgotten", "message": _FORGOTTEN}}
    if outcome.error is not None and outcome.status != "interrupted":
        return {"__error__": outcome.error}
    return outcome.values
