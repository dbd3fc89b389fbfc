"""Server-sent events as a client reads them, and how a stream must end. No Locust in here."""

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple


class Event(NamedTuple):
    name: str
    data: Any
    #: Only of runs that can be resumed.
    id: str | None = None


class StreamFailed(Exception):
    """The stream said so, or stopped short."""


def read_events(lines: Iterable[bytes]) -> Iterator[Event]:
    """The events of a stream, each as soon as its empty line has come; comments are passed over."""
    name, data, event_id = "message", b"", None
    for line in lines:
        field, _, value = line.rstrip(b"\r\n").partition(b":")
        value = value.removeprefix(b" ")
        if field == b"event":
            name = value.decode()
        elif field == b"id":
            event_id = value.decode()
        elif field == b"data":
            data = data + b"\n" + value if data else value
        elif not field and not value:
            if data:
                yield Event(name, _decoded(data), event_id)
            name, data, event_id = "message", b"", None


def require_end(events: Sequence[Event]) -> None:
    """:raises StreamFailed: for an ``error`` event, and for a stream that stops before ``end``."""
    for event in events:
        if event.name == "error":
            raise StreamFailed(f"error event: {json.dumps(event.data)[:200]}")
    if not events:
        raise StreamFailed("the stream had no event")
    if events[-1].name != "end":
        raise StreamFailed(f"the stream stopped after '{events[-1].name}', without end")


def spoken(events: Iterable[Event]) -> str:
    """The reply, put together from the pieces of its ``messages`` events."""
    return "".join(event.data[0]["content"] for event in events if event.name == "messages")


def _decoded(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise StreamFailed(f"data is not JSON: {data[:200]!r}") from error
