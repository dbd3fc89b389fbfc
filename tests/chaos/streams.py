"""What is true of a resumable stream, however often it was cut and wherever it was joined again.

Two independent looks: at the ids (what came is what is stored, nothing left out), and at what the
graph says of itself (steps and tokens of an attempt are consecutive), which needs no ids.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

from tests.chaos.history import Asked, Event


def gaps_and_duplicates(asked: Asked) -> Iterator[str]:
    yield from _ids(asked.events)
    yield from _attempts(asked.events)
    whole = asked.replays.get(-1)
    if whole is None:
        return
    yield from _ids(whole)
    yield from _attempts(whole)
    yield from _same(asked.events, whole, complete=asked.stream_ended)
    for after, replay in asked.replays.items():
        wanted = [(number, said) for number, said in _numbered(whole) if number > after]
        if (got := _numbered(replay)) != wanted:
            yield f"read again after {after}: {len(got)} events where {len(wanted)} are stored"


def _numbered(events: Sequence[Event]) -> list[tuple[int, tuple[str, str]]]:
    return [(event.id, event.said) for event in events if event.id is not None]


def _ids(events: Sequence[Event]) -> Iterator[str]:
    ids = [event.id for event in events if event.id is not None]
    for before, after in pairwise(ids):
        if after == before:
            yield f"event {after} came twice"
        elif after < before:
            yield f"event {after} came after {before}"
        elif after != before + 1:
            yield f"events {before + 1} to {after - 1} never came"
    for event in events:
        if event.id is None and event.name not in ("end", "error"):
            yield f"a {event.name} event without an id"


def _same(events: Sequence[Event], whole: Sequence[Event], *, complete: bool) -> Iterator[str]:
    """What the client got, against what is stored."""
    stored = {event.id: event for event in whole if event.id is not None}
    got = {event.id: event for event in events if event.id is not None}
    for number, event in got.items():
        if number not in stored:
            yield f"event {number} was sent and is not stored"
        elif stored[number].said != event.said:
            yield f"event {number} was {event.name}, and is {stored[number].name} now"
    if complete and (missing := stored.keys() - got.keys()):
        yield f"events {sorted(missing)} never came"


def _attempts(events: Sequence[Event]) -> Iterator[str]:
    """Each attempt says first that it begins; its tokens follow one another."""
    attempt = 0
    previous: tuple[int, int] | None = None
    for event in events:
        if event.name == "metadata":
            if event.data["attempt"] <= attempt:
                yield f"attempt {event.data['attempt']} began after attempt {attempt}"
            attempt, previous = event.data["attempt"], None
        elif event.name == "custom":
            at = (event.data["step"], event.data["token"])
            if event.data["attempt"] != attempt:
                yield f"a token of attempt {event.data['attempt']} in attempt {attempt}"
            elif previous is not None and at != _next(previous):
                yield f"attempt {attempt}: token {at} came after {previous}"
            previous = at


def _next(at: tuple[int, int]) -> tuple[int, int]:
    step, token = at
    return (step, 1) if token == 0 else (step + 1, 0)
