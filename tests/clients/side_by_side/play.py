"""Plays one step on a server, and says how two outcomes of it differ."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

import httpx
from langgraph_sdk import get_client
from langgraph_sdk.client import LangGraphClient
from langgraph_sdk.errors import APIStatusError

from tests.clients.replay import Difference

_UUID = re.compile(r"[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)")
_PATIENCE_SECONDS = 30.0
_BROKEN = 500
#: Between two looks at what will be there after a while.
_AGAIN_SECONDS = 0.05
#: Of streams that do not end by themselves so many events are read.
_EVENTS = 200
#: Headers of an answer that clients read.
_READ = ("content-location", "location", "x-pagination-total", "x-pagination-next")


@dataclass(frozen=True)
class Step:
    """One call.

    :ivar call: a method of the SDK's client, as in ``threads.create``; or, for what the SDK cannot
        send, a method of HTTP and a path, as in ``HEAD /ok``.
    :ivar arguments: ``$name`` in a string stands for what an earlier step kept. For HTTP: ``json``,
        ``content`` and ``headers``. ``events``: how many of an endless stream are read.
    :ivar keep: names for parts of the answer, by their keys with periods between them.
    :ivar after: the title of an earlier step that this one looks at: where that one differs in its
        status, this one is played and not compared.
    :ivar until: parts of the answer, by their keys, as they will be after a while: the call is made
        again until then. A tuple: any of these.
    :ivar within: after so many seconds it is compared as it is.
    """

    title: str
    call: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    keep: Mapping[str, str] = field(default_factory=dict)
    after: str = ""
    until: Mapping[str, Any] = field(default_factory=dict)
    within: float = 10.0


@dataclass
class Outcome:
    """What became of a step.

    :ivar status: the HTTP status of a refusal, 200 for any success, 0 for what the client itself
        refuses to send or cannot read.
    :ivar events: of a stream, the names and the data.
    """

    status: int
    value: Any = None
    events: list[tuple[str, Any]] | None = None
    words: str = ""
    #: Those that clients read, of an answer over HTTP.
    headers: Mapping[str, str] = field(default_factory=dict)

    def at(self, path: str) -> Any:
        """A part of the answer, or None; of a stream, by the name of an event first."""
        value: Any = self.value if self.events is None else dict(self.events)
        for key in path.split("."):
            if isinstance(value, list):
                value = value[int(key)] if len(value) > int(key) else None
            else:
                value = value.get(key) if isinstance(value, dict) else None
        return value


class Side:
    """One server, and what was kept of its answers."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._kept: dict[str, str] = {}
        self._open()

    def _open(self) -> None:
        self._http = httpx.AsyncClient(base_url=self._url, timeout=_PATIENCE_SECONDS)
        self._client: LangGraphClient = get_client(url=self._url, timeout=_PATIENCE_SECONDS)

    async def close(self) -> None:
        await self._http.aclose()
        await self._client.aclose()

    async def play(self, step: Step) -> Outcome:
        arguments = self._filled(dict(step.arguments))
        call = self._filled(step.call)
        outcome = await self._outcome(call, arguments)
        end = monotonic() + step.within
        while monotonic() < end:
            if all(_is(outcome.at(path), wanted) for path, wanted in step.until.items()):
                break
            await asyncio.sleep(_AGAIN_SECONDS)
            outcome = await self._outcome(call, arguments)
        if outcome.status >= _BROKEN:
            # The official server closes the connection behind it, perhaps under the next request.
            await self.close()
            self._open()
        for name, path in step.keep.items():
            self._kept[name] = str(outcome.at(path))
        return outcome

    async def _outcome(self, call: str, arguments: dict[str, Any]) -> Outcome:
        try:
            if " " in call:
                return await self._ask(call, arguments)
            room, method = call.split(".")
            events = arguments.pop("events", _EVENTS)
            answer = getattr(getattr(self._client, room), method)(
                *arguments.pop("positional", ()), **arguments
            )
            if not isinstance(answer, AsyncIterator):
                answer = await answer
            if isinstance(answer, AsyncIterator):
                return await _streamed(answer, events)
            return Outcome(200, answer)
        except APIStatusError as error:
            return Outcome(error.status_code, words=_line(str(error)))
        except httpx.HTTPStatusError as error:
            # It quotes the address alone.
            return Outcome(error.response.status_code)
        except Exception as error:
            return Outcome(0, words=_line(f"{type(error).__name__}: {error}"))

    async def _ask(self, call: str, arguments: dict[str, Any]) -> Outcome:
        method, path = call.split(" ", 1)
        answer = await self._http.request(method, path, **arguments)
        headers = {name: answer.headers[name] for name in _READ if name in answer.headers}
        if answer.is_error:
            return Outcome(answer.status_code, words=_line(answer.text))
        try:
            return Outcome(answer.status_code, answer.json(), headers=headers)
        except ValueError:
            return Outcome(answer.status_code, answer.text, headers=headers)

    def _filled(self, value: Any) -> Any:
        if isinstance(value, str):
            return re.sub(r"\$(\w+)", lambda found: self._kept.get(found[1], found[0]), value)
        if isinstance(value, dict):
            return {self._filled(key): self._filled(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._filled(item) for item in value)
        return value


def _line(text: str) -> str:
    return " ".join(text.split())[:200]


def _is(value: Any, wanted: Any) -> bool:
    return bool(value in wanted if isinstance(wanted, tuple) else value == wanted)


async def _streamed(parts: AsyncIterator[Any], most: int) -> Outcome:
    events: list[tuple[str, Any]] = []
    async for part in parts:
        events.append((part.event, part.data))
        if len(events) == most:
            break
    return Outcome(200, events=events)


def differences(official: Outcome, ours: Outcome) -> Iterator[Difference]:
    """Where ``ours`` is not ``official``; ids and times count as equal.

    Of refusals only the status is compared: the words are each server's own.
    """
    if official.status != ours.status:
        yield Difference(
            "status",
            f"{official.status} {official.words}".strip(),
            f"{ours.status} {ours.words}".strip(),
        )
        return
    yield from _values(dict(official.headers), dict(ours.headers), "headers")
    if official.events is None or ours.events is None:
        yield from _values(_plain(official.value), _plain(ours.value), "$")
        return
    names = [[_masked(name) for name, _ in side] for side in (official.events, ours.events)]
    if names[1] == [*names[0], "end"]:
        yield Difference("events end", "closed", "end")
    elif names[0] != names[1]:
        yield Difference("events", *names)
    for (name, data), (other, found) in zip(official.events, ours.events, strict=False):
        if _masked(name) != _masked(other):
            return
        yield from _values(_plain(data), _plain(found), _masked(name))


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value, default=str))


def _values(official: Any, ours: Any, where: str) -> Iterator[Difference]:
    if isinstance(official, dict) and isinstance(ours, dict):
        told, found = (
            {_masked(key): item for key, item in side.items()} for side in (official, ours)
        )
        for key in sorted(told.keys() | found.keys()):
            if key not in found:
                yield Difference(f"{where}.{key}", told[key], "(absent)")
            elif key not in told:
                yield Difference(f"{where}.{key}", "(absent)", found[key])
            else:
                yield from _values(told[key], found[key], f"{where}.{key}")
    elif isinstance(official, list) and isinstance(ours, list):
        if len(official) != len(ours):
            yield Difference(f"{where}[]", f"{len(official)} items", f"{len(ours)} items")
        for told, found in zip(official, ours, strict=False):
            yield from _values(told, found, f"{where}[]")
    elif isinstance(official, str) and isinstance(ours, str):
        if _masked(official) != _masked(ours):
            yield Difference(where, official[:200], ours[:200])
    elif official != ours or type(official) is not type(ours):
        yield Difference(where, official, ours)


def _masked(text: str) -> str:
    return _UUID.sub("<id>", _TIME.sub("<time>", text))
