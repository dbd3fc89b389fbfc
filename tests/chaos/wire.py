"""What comes over HTTP, read as clients read it: events, run ids, results."""

import json
import re
from collections.abc import AsyncIterator

import httpx

from tests.chaos.history import Asked, Entry, Event

_RUN = re.compile(r"/runs/([0-9a-f-]{36})")


async def events(response: httpx.Response) -> AsyncIterator[Event]:
    """Server-sent events; comments and ``retry`` say nothing here."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(":")
            if name:
                fields[name] = value.removeprefix(" ")
        elif fields:
            if "event" in fields:
                number = int(fields["id"]) if "id" in fields else None
                yield Event(number, fields["event"], json.loads(fields.get("data", "null")))
            fields = {}


def note_acceptance(asked: Asked, response: httpx.Response, *, request: str = "start") -> bool:
    """Whether it is a 2xx; the run id that it names is the run's."""
    if not response.is_success:
        asked.fail(request, str(response.status_code))
        return False
    if found := _RUN.search(response.headers.get("content-location", "")):
        asked.accept(found[1])
    return True


def note_event(asked: Asked, event: Event) -> bool:
    """Keep an event; true when it is the last."""
    asked.events.append(event)
    if event.name == "end":
        asked.hear(event.data["status"])
    elif event.name == "error":
        asked.hear("error")
        asked.errors.append(str(event.data))
    else:
        return False
    asked.stream_ended = True
    return True


def note_result(asked: Asked, body: bytes) -> None:
    """What a wait or join answered: values, or how it failed."""
    values = json.loads(body)
    if isinstance(values, dict) and "__error__" in values:
        asked.hear("error")
        asked.errors.append(str(values["__error__"]))
        return
    asked.hear("success")
    asked.see(Entry.read(values) or [])
