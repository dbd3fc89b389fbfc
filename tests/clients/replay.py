"""Sends recorded requests again and says how the answers differ; what may, it does not know."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

FIXTURES = Path(__file__).parent / "transcripts"

Exchange = dict[str, Any]
During = Callable[[int], Awaitable[None]]

_SYMBOL = re.compile(r"<\d+>")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ID = re.compile(rf"{_UUID.pattern}|[0-9a-f]{{32}}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)$")
#: How long a stream that has no end is watched where it tells less than the recorded one.
_PATIENCE = 2.0
#: Statuses of exchanges whose point is that what they name is not there.
_ABSENT = {404, 409, 422}


def chapters() -> dict[str, list[Exchange]]:
    """By the file's name without its number, in order."""
    return {path.stem[3:]: json.loads(path.read_text()) for path in sorted(FIXTURES.glob("*.json"))}


@dataclass(frozen=True)
class Difference:
    """Where an answer is not the recorded one: ``status``, ``header x``, ``$.path``, ``events``."""

    where: str
    recorded: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.where}: {self.recorded!r} -> {self.found!r}"


@dataclass
class Ids:
    """What the symbols of the recording stand for on this server."""

    live: dict[str, str] = field(default_factory=dict)

    def bind(self, symbol: str, value: str) -> None:
        self.live.setdefault(symbol, value)

    def fill(self, text: str) -> str:
        """Symbols nobody has seen are ids of nothing."""
        return _SYMBOL.sub(lambda found: self.live.setdefault(found[0], str(uuid4())), text)

    def filled(self, value: Any) -> Any:
        return json.loads(self.fill(json.dumps(value)))


@dataclass
class Answer:
    status: int
    headers: httpx.Headers
    json: Any = None
    events: list[tuple[str, str | None, Any]] | None = None


class Replay:
    """One recording against one server."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client
        self.ids = Ids()

    async def send(self, one: Exchange, during: During | None = None) -> list[Difference]:
        """``during`` is told the number of events, 0 when the headers are there, and may act."""
        await self._make_threads(one)
        answer = await self._answer(one, during)
        return list(self._differences(one, answer))

    async def _make_threads(self, one: Exchange) -> None:
        """Threads that the recording made without writing it down."""
        named = re.match(r"/threads/(<\d+>)", one["path"])
        if named and named[1] not in self.ids.live and one["status"] not in _ABSENT:
            made = await self.client.post("/threads", json={})
            self.ids.bind(named[1], made.json()["thread_id"])

    async def _answer(self, one: Exchange, during: During | None) -> Answer:
        arguments: dict[str, Any] = {"headers": self.ids.filled(one.get("request_headers", {}))}
        if "body" in one:
            arguments["json"] = self.ids.filled(one["body"])
        elif "raw_body" in one:
            arguments["content"] = one["raw_body"]
            arguments["headers"]["content-type"] = "application/json"
        request = self.client.stream(one["method"], self.ids.fill(one["path"]), **arguments)
        async with request as response:
            if response.headers.get("content-type", "").startswith("text/event-stream"):
                frames = await _read(response, one, during)
                return Answer(response.status_code, response.headers, events=frames)
            if during is not None:
                await during(0)
            text = (await response.aread()).decode()
        try:
            return Answer(response.status_code, response.headers, json=json.loads(text))
        except ValueError:
            return Answer(response.status_code, response.headers, json=text or None)

    def _differences(self, one: Exchange, answer: Answer) -> Iterator[Difference]:
        if answer.status != one["status"]:
            yield Difference("status", one["status"], answer.status)
        for name, value in one["headers"].items():
            yield from self._header(name, value, answer.headers.get(name))
        if answer.status != one["status"]:
            return
        if "events" in one:
            yield from self._events(one, answer)
        elif "json" in one:
            yield from self._shape(one["json"], answer.json, "$")

    def _header(self, name: str, recorded: str, found: str | None) -> Iterator[Difference]:
        if found is None:
            yield Difference(f"header {name}", recorded, None)
            return
        pattern = re.escape(recorded)
        for symbol in [*_SYMBOL.findall(recorded), "id"]:
            pattern = (
                pattern.replace(re.escape(symbol), _UUID.pattern, 1)
                if symbol != "id"
                else (re.sub(r"(?<=/)id(?=/|$)", _UUID.pattern, pattern))
            )
        if not re.fullmatch(pattern, found):
            yield Difference(f"header {name}", recorded, found)
            for symbol, value in zip(
                reversed(_SYMBOL.findall(recorded)), reversed(_UUID.findall(found)), strict=False
            ):
                self.ids.bind(symbol, value)
            return
        for symbol, value in zip(
            re.findall(r"<\d+>|(?<=/)id(?=/|$)", recorded), _UUID.findall(found), strict=False
        ):
            if symbol != "id":
                yield from self._same_id(symbol, value, f"header {name}")

    def _same_id(self, symbol: str, value: str, where: str) -> Iterator[Difference]:
        self.ids.bind(symbol, value)
        if self.ids.live[symbol] != value:
            yield Difference(where, f"{symbol} = {self.ids.live[symbol]}", value)

    def _events(self, one: Exchange, answer: Answer) -> Iterator[Difference]:
        found = answer.events or []
        recorded = one["events"]
        names = [name for name, _, _ in recorded], [_named(name) for name, _, _ in found]
        if names[1] == [*names[0], "end"]:
            yield Difference("events end", "closed", "end")
        elif names[0] != names[1]:
            yield Difference("events", names[0], names[1])
        if [number is None for _, number, _ in recorded] != [
            number is None for _, number, _ in found[: len(recorded)]
        ]:
            yield Difference("event ids", *([n for _, n, _ in side] for side in (recorded, found)))
        for (name, number, data), (live_name, live_number, live_data) in zip(
            recorded, found, strict=False
        ):
            if _named(live_name) != name:
                return
            if number and live_number and _SYMBOL.fullmatch(number):
                self.ids.bind(number, live_number)
            yield from self._shape(data, live_data, f"{name}")

    def _shape(self, recorded: Any, found: Any, where: str) -> Iterator[Difference]:
        if isinstance(recorded, dict) and isinstance(found, dict):
            yield from self._object(recorded, found, where)
        elif isinstance(recorded, list) and isinstance(found, list):
            yield from self._list(recorded, found, where)
        elif isinstance(recorded, str):
            yield from self._leaf(recorded, found, where)
        else:
            yield Difference(where, recorded, found)

    def _object(self, recorded: Any, found: Any, where: str) -> Iterator[Difference]:
        live = {_named(key): value for key, value in found.items()}
        told = {_SYMBOL.sub("id", key): value for key, value in recorded.items()}
        for key in told.keys() - live.keys():
            yield Difference(f"{where}.{key}", told[key], "(absent)")
        for key in live.keys() - told.keys():
            yield Difference(f"{where}.{key}", "(absent)", live[key])
        for key in told.keys() & live.keys():
            yield from self._shape(told[key], live[key], f"{where}.{key}")

    def _list(self, recorded: list[Any], found: list[Any], where: str) -> Iterator[Difference]:
        cut = recorded[-1:] == ["<cut>"]
        recorded = recorded[:-1] if cut else recorded
        if len(recorded) != len(found) and not (cut and len(found) >= len(recorded)):
            yield Difference(f"{where}[]", len(recorded), len(found))
        for one, other in zip(recorded, found, strict=False):
            yield from self._shape(one, other, f"{where}[]")

    def _leaf(self, recorded: str, found: Any, where: str) -> Iterator[Difference]:
        if recorded in ("<cut>", "<text>"):
            return
        if _SYMBOL.fullmatch(recorded) and isinstance(found, str):
            yield from self._same_id(recorded, found, where)
        elif not _fits(recorded, found):
            yield Difference(where, recorded, found)


def _fits(recorded: str, found: Any) -> bool:
    if recorded.startswith("="):
        return bool(found == recorded[1:])
    if isinstance(found, str):
        if recorded == "id":
            return _ID.fullmatch(found) is not None or found.isdigit()
        if recorded == "time":
            return _TIME.match(found) is not None
        return recorded in ("str", found)
    kinds = {bool: "bool", int: "number", float: "number", type(None): "null"}
    return kinds.get(type(found)) == recorded


def _named(text: str) -> str:
    return _ID.sub("id", text)


async def _read(
    response: httpx.Response, one: Exchange, during: During | None
) -> list[tuple[str, str | None, Any]]:
    """The events, to the end or as far as the recording's client stayed."""
    wanted = len(one.get("events", [])) if one.get("left_early") or "events" not in one else None
    found: list[tuple[str, str | None, Any]] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(None if wanted is None else _PATIENCE):
            if during is not None:
                await during(0)
            if wanted == 0 and during is None:
                return found
            async for frame in _frames(response):
                found.append(frame)
                if during is not None:
                    await during(len(found))
                if len(found) == wanted:
                    break
    return found


async def _frames(response: httpx.Response) -> AsyncIterator[tuple[str, str | None, Any]]:
    """Parsed server-sent events."""
    fields: dict[str, str] = {}
    async for line in response.aiter_lines():
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields.get("event"):
            yield fields["event"], fields.get("id"), json.loads(fields.get("data") or "null")
        fields = {}
