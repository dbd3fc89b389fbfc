"""One request after another to whichever pod, each of a client that may be killed; what is told is
kept in what was asked."""

import asyncio
import json
import time
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from random import Random
from typing import Any

import httpx

from headrace.lifecycle import Tasks
from tests.chaos.history import GONE, TERMINAL, Asked, Event
from tests.chaos.wire import events, note_acceptance, note_event, note_result

#: A stream or wait says something each second (pods.QUICK): silence means a dead end.
_TIMEOUT = httpx.Timeout(4.0, connect=2.0)
#: A cancel that waits says nothing until the run has stopped.
_CANCEL_TIMEOUT = httpx.Timeout(15.0, connect=2.0)


class Clients:
    def __init__(self, urls: Sequence[str], random: Random, tasks: Tasks) -> None:
        self._urls = urls
        self._random = random
        self._tasks = tasks
        self._exchanges: set[asyncio.Task[None]] = set()
        self._http = httpx.AsyncClient(
            timeout=_TIMEOUT, limits=httpx.Limits(max_keepalive_connections=0)
        )
        #: The pod that each resumable run was read from last.
        self._read_from: dict[str, str] = {}
        #: Answers that no client could make sense of.
        self.unexpected: list[str] = []

    async def close(self) -> None:
        await self._http.aclose()

    def kill(self, share: float) -> int:
        """Some of those that wait for something right now are gone, without a word."""
        chosen = [one for one in self._exchanges if self._random.random() < share]
        for exchange in chosen:
            exchange.cancel()
        return len(chosen)

    async def wait(self, asked: Asked, body: dict[str, Any]) -> None:
        async def exchange() -> None:
            url = f"{self._url()}/threads/{asked.thread_id}/runs/wait"
            async with self._http.stream("POST", url, json=body) as response:
                if note_acceptance(asked, response):
                    note_result(asked, await response.aread())

        await self._exchange(asked, exchange(), "start")

    async def stream(
        self, asked: Asked, body: dict[str, Any], *, stop_after: int | None = None
    ) -> None:
        async def exchange() -> None:
            pod = self._url(other_than=asked)
            url = f"{pod}/threads/{asked.thread_id}/runs/stream"
            async with self._http.stream("POST", url, json=body) as response:
                if note_acceptance(asked, response):
                    await _read(asked, response, stop_after)

        await self._exchange(asked, exchange(), "start")

    async def join_stream(self, asked: Asked, *, stop_after: int | None) -> None:
        """Go on after the last event that came, at another pod than before."""

        async def exchange() -> None:
            headers = {"Last-Event-ID": str(last_id(asked.events))}
            url = f"{self._url(other_than=asked)}{_path(asked)}/stream"
            async with self._http.stream("GET", url, headers=headers) as response:
                if response.is_success:
                    asked.joins += 1
                    await _read(asked, response, stop_after)
                else:
                    asked.fail("follow", str(response.status_code))

        await self._exchange(asked, exchange(), "follow")

    async def read_again(self, asked: Asked, after: int) -> None:
        """What the stored stream says after an index, at another pod; a cut answer is none."""
        with suppress(httpx.HTTPError):
            url = f"{self._url(other_than=asked)}{_path(asked)}/stream"
            headers = {"Last-Event-ID": str(after)}
            async with self._http.stream("GET", url, headers=headers) as response:
                if not response.is_success:
                    return
                got = [event async for event in events(response)]
                if got and got[-1].name in ("end", "error"):
                    asked.replays[after] = got

    async def post(self, asked: Asked, body: dict[str, Any], *, key: str | None = None) -> None:
        """In the background."""
        request = "start" if key is None else "start with a key"

        async def exchange() -> None:
            response = await self._http.post(
                f"{self._url()}/threads/{asked.thread_id}/runs",
                json=body,
                headers={} if key is None else {"Idempotency-Key": key},
            )
            if note_acceptance(asked, response, request=request):
                asked.accept(response.json()["run_id"])
            elif response.status_code == 409 and response.json().get("code") == "thread_busy":
                asked.refused = True

        await self._exchange(asked, exchange(), request)

    async def create_cron(self, asked: Asked, body: dict[str, Any]) -> None:
        """With a key, so that one cron comes of it."""

        async def exchange() -> None:
            response = await self._http.post(
                f"{self._url()}/runs/crons", json=body, headers={"Idempotency-Key": asked.name}
            )
            if response.is_success:
                asked.accept_cron(response.json()["cron_id"])
            else:
                asked.fail("create a cron", str(response.status_code))

        await self._exchange(asked, exchange(), "create a cron")

    async def delete_cron(self, asked: Asked) -> bool:
        """True once it is gone."""
        known: list[int] = []

        async def exchange() -> None:
            response = await self._http.delete(f"{self._url()}/runs/crons/{asked.cron_id}")
            if response.status_code in (204, 404):
                known.append(response.status_code)
            else:
                asked.fail("delete a cron", str(response.status_code))

        await self._exchange(asked, exchange(), "delete a cron")
        return bool(known)

    async def cancel(self, asked: Asked, action: str, *, wait: bool) -> bool:
        """True once it is known to have been asked for, or to have nothing to stop any more."""
        known: list[int] = []

        async def exchange() -> None:
            response = await self._http.post(
                f"{self._url()}{_path(asked)}/cancel",
                params={"action": action, "wait": int(wait)},
                timeout=_CANCEL_TIMEOUT,
            )
            if response.status_code in (200, 202, 404):
                known.append(response.status_code)
            else:
                asked.fail("cancel", str(response.status_code))

        await self._exchange(asked, exchange(), "cancel")
        if known == [200]:
            await self.ask_status(asked, stopped=True)
        return bool(known)

    async def ask_status(self, asked: Asked, *, stopped: bool = False) -> None:
        """
        :param stopped: it was told to be over: another answer is kept, as what it was told.
        """

        async def exchange() -> None:
            response = await self._http.get(f"{self._url()}{_path(asked)}")
            if response.status_code == 404:
                asked.hear(GONE)
            elif response.is_success:
                status = response.json()["status"]
                if status in TERMINAL or stopped:
                    asked.hear(status)
            else:
                asked.fail("status", str(response.status_code))

        await self._exchange(asked, exchange(), "status")

    async def join(self, asked: Asked) -> None:
        async def exchange() -> None:
            response = await self._http.get(f"{self._url()}{_path(asked)}/join")
            if response.is_success:
                note_result(asked, response.content)
            else:
                asked.fail("follow", str(response.status_code))

        await self._exchange(asked, exchange(), "follow")

    async def _exchange(
        self, asked: Asked, exchange: Coroutine[Any, Any, None], request: str
    ) -> None:
        """One request, whose client may be killed."""
        accepted_before = asked.accepted
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
            # A start whose answer broke off after its head is followed like any run.
            begun = request == "start" and asked.accepted and not accepted_before
            asked.fail("follow" if begun else request, repr(error))
            if not isinstance(error, httpx.HTTPError | json.JSONDecodeError):
                self.unexpected.append(f"{asked.kind} {asked.name}: {error!r}")

    def _url(self, *, other_than: Asked | None = None) -> str:
        """Of any pod; or of another one than this was read from last."""
        if other_than is None:
            return self._random.choice(self._urls)
        last = self._read_from.get(other_than.name)
        chosen = self._random.choice([url for url in self._urls if url != last] or self._urls)
        self._read_from[other_than.name] = chosen
        return chosen


def last_id(got: Sequence[Event]) -> int:
    return max((event.id for event in got if event.id is not None), default=-1)


def now() -> float:
    """The clock that the graph and the servers read, too."""
    return time.time()


def _path(asked: Asked) -> str:
    return f"/threads/{asked.thread_id}/runs/{next(iter(asked.run_ids))}"


async def _read(asked: Asked, response: httpx.Response, stop_after: int | None) -> None:
    async for event in events(response):
        if note_event(asked, event):
            return
        if stop_after is not None:
            stop_after -= 1
            if stop_after == 0:
                return
