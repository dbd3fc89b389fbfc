"""Following a run for a client: its events as SSE, or its result as one JSON body."""

from collections.abc import AsyncGenerator

import structlog

from headrace.events.channel import Cut, Reader
from headrace.events.encoding import encode_json
from headrace.events.sse import HEARTBEAT
from headrace.runs.dispatcher import FollowedRun, RunOutcome

_log = structlog.stdlib.get_logger("headrace.runs")

#: Keeps proxies and load balancers from closing a quiet ``wait``; JSON readers skip white space.
WAIT_HEARTBEAT = b"\n"


async def event_frames(
    run: FollowedRun, reader: Reader, *, heartbeat_seconds: float
) -> AsyncGenerator[bytes, None]:
    """What ``reader`` gets of the run's events, and a heartbeat whenever that is nothing."""
    try:
        while True:
            chunk = await reader.read(heartbeat_seconds)
            if chunk is None:
                return
            yield chunk or HEARTBEAT
    except Cut:
        # The client reads on from the run's Location if it wants; the run is not slowed.
        _log.warning("slow_client_cut", run_id=str(run.run_id), thread_id=run.thread_id)
    finally:
        run.unsubscribe(reader)


async def result_body(run: FollowedRun, *, heartbeat_seconds: float) -> AsyncGenerator[bytes, None]:
    """The run's last values as JSON, a newline whenever that takes long."""
    while (outcome := await run.outcome(heartbeat_seconds)) is None:
        yield WAIT_HEARTBEAT
    yield encode_json(result_of(outcome))


def result_of(outcome: RunOutcome) -> object:
    """What ``wait`` answers: values, or ``{"__error__"}`` when the run failed."""
    if outcome.error is not None and outcome.status != "interrupted":
        return {"__error__": outcome.error}
    return outcome.values
