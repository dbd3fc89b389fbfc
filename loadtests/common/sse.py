"""A stream is two figures: time to its first event, and time to its end.

Locust measures a streamed response until its headers are there, which tells nothing. Here each
stream gives an entry "<name> first event" and an entry "<name> end", both of type SSE. Whatever is
wrong with a stream is a failure of its end, so each stream counts once there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from locust.contrib.fasthttp import FAILURE_EXCEPTIONS, FastHttpUser, FastResponse

from loadtests.common.events import Event, StreamFailed, read_events, require_end

#: Compressed events would sit in the compressor.
_HEADERS = {"Accept": "text/event-stream", "Accept-Encoding": "identity"}

#: What the entry of refusals is called after the name of the request.
REFUSED = "refused"
_REFUSALS = (429, 503)

#: What the entry of a stream's first event is called after its name.
FIRST_EVENT = "first event"

Check = Callable[[Sequence[Event]], None]


class Refused(Exception):
    """The server has no room, and says when to come again."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds


def refused_for(response: FastResponse) -> float | None:
    """How long to wait after a refusal; None if it is none, or does not say so."""
    if response.status_code not in _REFUSALS:
        return None
    seconds = response.headers.get("retry-after")
    return None if seconds is None else float(seconds)


def follow(
    user: FastHttpUser,
    path: str,
    body: dict[str, Any] | None,
    *,
    name: str,
    check: Check,
    method: str = "POST",
    last_event_id: str | None = None,
    until: int | None = None,
    may_refuse: bool = False,
) -> list[Event] | None:
    """Send ``body``, read the stream to its end, and measure both; the events, or None if failed.

    :param check: gets the events of a stream that ended; raises StreamFailed when they are wrong.
    :param until: hang up after so many events. Then the stream need not end.
    :param may_refuse: a refusal with ``Retry-After`` is counted apart, and is no failure.
    :raises Refused: it was refused so.
    """
    entry = _Entry(user, name)
    events: list[Event] = []
    try:
        headers = {**_HEADERS, **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        response = _opened(user, method, path, body, headers)
        if may_refuse and (seconds := refused_for(response)) is not None:
            response.content  # noqa: B018 - read to its end, so that the connection can go on
            entry.fire(REFUSED)
            raise Refused(seconds)
        _require_stream(response)
        for event in read_events(_lines(response)):
            if not events:
                entry.fire(FIRST_EVENT)
            events.append(event)
            if len(events) == until:
                # With the rest of the stream unread, the connection is good for nothing else.
                user.client.client.close()
                break
        else:
            require_end(events)
        check(events)
    except (StreamFailed, *FAILURE_EXCEPTIONS) as error:
        entry.fire("end", error)
        return None
    entry.fire("end")
    return events


class _Entry:
    """The clock of one stream, and where it is written down."""

    def __init__(self, user: FastHttpUser, name: str) -> None:
        self._user = user
        self._name = name
        self._started_at = time.time()
        self._started = time.perf_counter()

    def fire(self, what: str, error: BaseException | None = None) -> None:
        self._user.environment.events.request.fire(
            request_type="SSE",
            name=f"{self._name} {what}",
            response_time=(time.perf_counter() - self._started) * 1000,
            response_length=0,
            response=None,
            context=self._user.context(),
            exception=error,
            start_time=self._started_at,
            url=self._name,
        )


def _opened(
    user: FastHttpUser,
    method: str,
    path: str,
    body: dict[str, Any] | None,
    headers: dict[str, str],
) -> FastResponse:
    # Caught and never entered: Locust writes down no entry of its own.
    response = user.client.request(
        method,
        path,
        json=body,
        headers=headers,
        stream=True,
        catch_response=True,
        allow_redirects=False,
    )
    if response.status_code == 0:
        response.raise_for_status()
    return response


def _require_stream(response: FastResponse) -> None:
    if response.status_code != 200:
        raise StreamFailed(f"HTTP {response.status_code}: {(response.text or '')[:200]}")
    if not (response.headers.get("content-type") or "").startswith("text/event-stream"):
        raise StreamFailed(f"no event stream but {response.headers.get('content-type')}")


def _lines(response: FastResponse) -> Iterator[bytes]:
    """Line by line as they arrive; Locust's own iter_lines waits until 1024 bytes are there."""
    source = response.stream
    while line := source.readline(b"\n"):
        yield bytes(line)
