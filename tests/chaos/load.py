"""Clients of each kind, that keep what they were told, whatever becomes of the servers."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import uuid4

import httpx

from headrace.lifecycle import Tasks
from tests.chaos.history import TERMINAL, Asked, Event
from tests.chaos.wire import events, note_acceptance, note_event, note_result

#: A stream or wait says something each second (pods.QUICK): silence means a dead end.
_TIMEOUT = httpx.Timeout(4.0, connect=2.0)
_TURNS_PER_THREAD = 6
_RUN = "/threads/{thread_id}/runs/{run_id}"
#: What a kind of client needs of the server; one that is not there yet is passed over.
NEEDS = {
    "wait": "/threads/{thread_id}/runs/wait",
    "stream": "/threads/{thread_id}/runs/stream",
    "resumable": _RUN + "/stream",
    "background": _RUN + "/join",
    "interrupt": "/threads/{thread_id}/runs/wait",
    "idempotent": _RUN + "/join",
}


class Load:
    def __init__(self, urls: Sequence[str], random: Random, *, routes: Collection[str]) -> None:
        self._urls = urls
        self._random = random
        self._routes = routes
        self._tasks = Tasks()
        self._exchanges: set[asyncio.Task[None]] = set()
        self._client = httpx.AsyncClient(
            timeout=_TIMEOUT, limits=httpx.Limits(max_keepalive_connections=0)
        )
        self._stopping = asyncio.Event()
        self._follow_until = float("inf")
        self.asked: list[Asked] = []
        #: Answers that no client could make sense of.
        self.unexpected: list[str] = []
        self._kinds: dict[str, Callable[[str], Awaitable[bool]]] = {
            "wait": self._wait,
            "stream": self._stream,
            "resumable": self._resumable,
            "background": self._background,
            "interrupt": self._interrupt,
            "idempotent": self._idempotent,
        }

    @property
    def kinds(self) -> list[str]:
        return [kind for kind in self._kinds if NEEDS[kind] in self._routes]

    def start(self, kinds: Collection[str], *, clients: int) -> None:
        """``clients`` of each kind, turn after turn, until stopped."""
        for kind in kinds:
            for number in range(clients):
                self._tasks.start(self._talk(kind), name=f"{kind}-{number}")

    async def stop(self, *, follow_seconds: float) -> None:
        """Ask for nothing new; what was asked for is followed to its end, for so long."""
        self._stopping.set()
        self._follow_until = asyncio.get_running_loop().time() + follow_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(follow_seconds + 20):
                await self._tasks.join()
        await self._tasks.stop()
        await self._client.aclose()

    def kill_clients(self, share: float) -> int:
        """Some of those that wait for something right now are gone, without a word."""
        chosen = [one for one in self._exchanges if self._random.random() < share]
        for exchange in chosen:
            exchange.cancel()
        return len(chosen)

    async def undisturbed(self, count: int, *, clients: int) -> None:
        """Plain streams, one after another at each client, while nothing goes wrong."""
        numbers = iter(range(count))

        async def read() -> None:
            for _ in numbers:
                asked = self._new("undisturbed", str(uuid4()), steps=1)
                await self._post_stream(asked, seconds=0.0)

        await asyncio.gather(*(read() for _ in range(clients)))

    async def _talk(self, kind: str) -> None:
        while not self._stopping.is_set():
            thread_id = str(uuid4())
            for _ in range(_TURNS_PER_THREAD):
                if self._stopping.is_set() or not await self._kinds[kind](thread_id):
                    break
            # Where nobody answers, asking again at once would be a flood.
            await asyncio.sleep(self._random.uniform(0.0, 0.1))

    # One turn of each kind; true when the conversation may go on.

    async def _wait(self, thread_id: str) -> bool:
        asked = self._new("wait", thread_id)
        await self._post_wait(asked, self._body(asked))
        return await self._follow(asked)

    async def _stream(self, thread_id: str) -> bool:
        asked = self._new("stream", thread_id)
        await self._post_stream(asked)
        return await self._follow(asked)

    async def _resumable(self, thread_id: str) -> bool:
        """Cut at some index or left alone; joined again elsewhere until it says that it is over."""
        asked = self._new("resumable", thread_id)
        cut = self._random.random() < 0.8
        await self._post_stream(asked, stop_after=1 if cut else None, stream_resumable=True)
        while asked.accepted and not asked.stream_ended and self._time_left():
            got = len(asked.events)
            await self._exchange(asked, self._join_stream(asked, stop_after=1 if cut else None))
            if len(asked.events) == got:
                await asyncio.sleep(0.1)
        if asked.stream_ended:
            await self._read_again(asked)
        return await self._follow(asked)

    async def _background(self, thread_id: str) -> bool:
        """Several at once on one thread: they queue."""
        all_asked = [self._new("background", thread_id) for _ in range(self._random.randint(1, 3))]
        for asked in all_asked:
            await self._post_background(asked, {})
        return all([await self._follow(asked) for asked in all_asked])

    async def _interrupt(self, thread_id: str) -> bool:
        asked = self._new("interrupt", thread_id, steps=4)
        asked.steps = [0, 1]
        body = self._body(asked)
        body["input"] |= {"asks": 2, "steps": 4}
        await self._post_wait(asked, body)
        if not await self._follow(asked):
            return False
        resumed = self._new("resume", thread_id, turn=asked.turn)
        resumed.steps = [2, 3]
        body = self._body(resumed) | {"command": {"resume": "yes"}}
        del body["input"]
        await self._post_wait(resumed, body)
        return await self._follow(resumed)

    async def _idempotent(self, thread_id: str) -> bool:
        """Asked for with one key several times, of several pods, mostly without an answer."""
        asked = self._new("idempotent", thread_id)
        headers = {"Idempotency-Key": asked.name}
        for _ in range(self._random.randint(1, 3)):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.0, 0.05)):
                    await self._post_background(asked, headers)
        while not asked.accepted and self._time_left():
            await self._post_background(asked, headers)
            await asyncio.sleep(0.05)
        await self._post_background(asked, headers)
        return await self._follow(asked)

    def _new(
        self, kind: str, thread_id: str, *, steps: int | None = None, turn: str | None = None
    ) -> Asked:
        made = list(range(steps or self._random.randint(2, 4)))
        name = str(uuid4())
        asked = Asked(name, kind, thread_id, turn or name, made)
        self.asked.append(asked)
        return asked

    def _body(self, asked: Asked, *, seconds: float | None = None) -> dict[str, Any]:
        if seconds is None:
            seconds = self._random.choice((0.02, 0.1, 0.1, 0.5))
        return {
            "assistant_id": "chaos",
            "input": {
                "turn": asked.turn,
                "steps": len(asked.steps),
                "seconds": seconds,
                "asks": -1,
            },
            "metadata": {"chaos": asked.name},
            "if_not_exists": "create",
        }

    async def _post_wait(self, asked: Asked, body: dict[str, Any]) -> None:
        async def exchange() -> None:
            url = f"{self._url()}/threads/{asked.thread_id}/runs/wait"
            async with self._client.stream("POST", url, json=body) as response:
                if note_acceptance(asked, response):
                    note_result(asked, await response.aread())

        await self._exchange(asked, exchange())

    async def _post_stream(
        self,
        asked: Asked,
        *,
        stop_after: int | None = None,
        seconds: float | None = None,
        **options: Any,
    ) -> None:
        body = self._body(asked, seconds=seconds) | {"stream_mode": ["custom"]} | options

        async def exchange() -> None:
            url = f"{self._url()}/threads/{asked.thread_id}/runs/stream"
            async with self._client.stream("POST", url, json=body) as response:
                if note_acceptance(asked, response):
                    await _read(asked, response, stop_after)

        await self._exchange(asked, exchange())

    async def _join_stream(self, asked: Asked, *, stop_after: int | None) -> None:
        headers = {"Last-Event-ID": str(last_id(asked.events))}
        async with self._client.stream(
            "GET", f"{self._url()}{_path(asked)}/stream", headers=headers
        ) as response:
            if response.is_success:
                await _read(asked, response, stop_after)
            else:
                asked.errors.append(str(response.status_code))

    async def _read_again(self, asked: Asked) -> None:
        """From each index, of whoever answers; an answer that is cut is none."""
        numbers = [event.id for event in asked.events if event.id is not None]
        for after in [-1, *numbers]:
            with suppress(httpx.HTTPError):
                async with self._client.stream(
                    "GET",
                    f"{self._url()}{_path(asked)}/stream",
                    headers={"Last-Event-ID": str(after)},
                ) as response:
                    if not response.is_success:
                        continue
                    got = [event async for event in events(response)]
                    if got and got[-1].name in ("end", "error"):
                        asked.replays[after] = got

    async def _post_background(self, asked: Asked, headers: dict[str, str]) -> None:
        async def exchange() -> None:
            response = await self._client.post(
                f"{self._url()}/threads/{asked.thread_id}/runs",
                json=self._body(asked, seconds=0.1),
                headers=headers,
            )
            if note_acceptance(asked, response):
                asked.run_ids.add(response.json()["run_id"])

        await self._exchange(asked, exchange())

    async def _follow(self, asked: Asked) -> bool:
        """Ask whoever answers how an accepted run has ended, until somebody says it."""
        while asked.accepted and not asked.told and self._time_left():
            await self._exchange(asked, self._join(asked))
            await asyncio.sleep(0.05)
        return bool(asked.told) and asked.told[-1] == "success"

    async def _join(self, asked: Asked) -> None:
        if NEEDS["background"] in self._routes:
            response = await self._client.get(f"{self._url()}{_path(asked)}/join")
            if response.is_success:
                note_result(asked, response.content)
                return
        else:
            response = await self._client.get(f"{self._url()}{_path(asked)}")
            if response.is_success:
                if (status := response.json()["status"]) in TERMINAL:
                    asked.told.append(status)
                return
        asked.errors.append(f"join: {response.status_code}")

    async def _exchange(self, asked: Asked, exchange: Coroutine[Any, Any, None]) -> None:
        """One request, whose client may be killed."""
        task = self._tasks.start(exchange, name="exchange")
        self._exchanges.add(task)
        try:
            await asyncio.wait({task})
        finally:
            self._exchanges.discard(task)
            task.cancel()
        if task.cancelled():
            asked.errors.append("killed")
        elif (error := task.exception()) is not None:
            asked.errors.append(repr(error))
            if not isinstance(error, httpx.HTTPError | json.JSONDecodeError):
                self.unexpected.append(f"{asked.kind} {asked.name}: {error!r}")

    def _url(self) -> str:
        return self._random.choice(self._urls)

    def _time_left(self) -> bool:
        return asyncio.get_running_loop().time() < self._follow_until


def last_id(got: Sequence[Event]) -> int:
    return max((event.id for event in got if event.id is not None), default=-1)


def _path(asked: Asked) -> str:
    return _RUN.format(thread_id=asked.thread_id, run_id=next(iter(asked.run_ids)))


async def _read(asked: Asked, response: httpx.Response, stop_after: int | None) -> None:
    async for event in events(response):
        if note_event(asked, event):
            return
        if stop_after is not None:
            stop_after -= 1
            if stop_after == 0:
                return
