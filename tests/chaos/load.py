"""Conversations of each kind, turn after turn, whatever becomes of the servers."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from random import Random
from typing import Any
from uuid import uuid4

from headrace.lifecycle import Tasks
from tests.chaos.clients import Clients, now
from tests.chaos.history import GONE, Asked

_TURNS_PER_THREAD = 6
#: A run that is to be stopped takes so long if nobody stops it.
_LONG_STEPS, _LONG_STEP_SECONDS = 60, 0.25
#: Who has asked for the stop by then is owed it: half of the run is still to come.
_IN_TIME_SECONDS = _LONG_STEPS * _LONG_STEP_SECONDS / 2

#: Runs of these kinds have a webhook.
_WITH_WEBHOOK = frozenset({"background", "interrupt", "resume", "cancel", "later"})


class Load:
    """
    :param webhook: who is told of the ends of some kinds of runs.
    """

    def __init__(self, urls: Sequence[str], random: Random, webhook: str) -> None:
        self._random = random
        self._webhook = webhook
        self._tasks = Tasks()
        self._clients = Clients(urls, random, self._tasks)
        self._stopping = asyncio.Event()
        self._follow_until = float("inf")
        self.asked: list[Asked] = []
        self._kinds: dict[str, Callable[[str], Awaitable[bool]]] = {
            "wait": self._wait,
            "stream": self._stream,
            "resumable": self._resumable,
            "background": self._background,
            "interrupt": self._interrupt,
            "idempotent": self._idempotent,
            "cancel": self._cancel,
            "strategy": self._strategy,
            "later": self._later,
            "cron": self._cron,
        }

    @property
    def kinds(self) -> list[str]:
        return list(self._kinds)

    @property
    def unexpected(self) -> list[str]:
        return self._clients.unexpected

    def start(self, kinds: Collection[str], *, clients: int) -> None:
        """``clients`` of each kind, turn after turn, until stopped."""
        for kind in kinds:
            for number in range(clients):
                self._tasks.start(self._talk(kind), name=f"{kind}-{number}")

    async def under_way(self, count: int) -> None:
        """Return once so many runs were accepted that nobody was told the end of."""
        while sum(one.accepted and not one.told for one in self.asked) < count:
            await asyncio.sleep(0.02)

    async def stop(self, *, follow_seconds: float) -> None:
        """Ask for nothing new; what was asked for is followed to its end, for so long."""
        self._stopping.set()
        self._follow_until = asyncio.get_running_loop().time() + follow_seconds
        with suppress(TimeoutError):
            async with asyncio.timeout(follow_seconds + 2):
                await self._tasks.join()
        await self._tasks.stop()
        await self._clients.close()

    def kill_clients(self, share: float) -> int:
        return self._clients.kill(share)

    async def undisturbed(self, count: int, *, clients: int) -> None:
        """Plain streams, one after another at each client, while nothing goes wrong."""
        numbers = iter(range(count))

        async def read() -> None:
            for _ in numbers:
                asked = self._new("undisturbed", str(uuid4()), steps=1)
                await self._clients.stream(asked, self._streamed(asked, seconds=0.0))

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
        await self._clients.wait(asked, self._body(asked))
        return await self._follow(asked)

    async def _stream(self, thread_id: str) -> bool:
        asked = self._new("stream", thread_id)
        await self._clients.stream(asked, self._streamed(asked))
        return await self._follow(asked)

    async def _resumable(self, thread_id: str) -> bool:
        """Cut after each event or left alone; joined again elsewhere until it says that it is over,
        and then read again after each index."""
        asked = self._new("resumable", thread_id)
        stop_after = 1 if self._random.random() < 0.6 else None
        body = self._streamed(asked) | {"stream_resumable": True}
        await self._clients.stream(asked, body, stop_after=stop_after)
        while asked.accepted and not asked.stream_ended and self._time_left():
            got = len(asked.events)
            await self._clients.join_stream(asked, stop_after=stop_after)
            if len(asked.events) == got:
                await asyncio.sleep(0.1)
        if asked.stream_ended:
            for after in [-1, *(event.id for event in asked.events if event.id is not None)]:
                await self._clients.read_again(asked, after)
                while after not in asked.replays and self._time_left():
                    await asyncio.sleep(0.05)
                    await self._clients.read_again(asked, after)
        return await self._follow(asked)

    async def _background(self, thread_id: str) -> bool:
        """Several at once on one thread: they queue."""
        all_asked = [self._new("background", thread_id) for _ in range(self._random.randint(1, 3))]
        for asked in all_asked:
            await self._clients.post(asked, self._body(asked))
        return all([await self._follow(asked) for asked in all_asked])

    async def _interrupt(self, thread_id: str) -> bool:
        asked = self._new("interrupt", thread_id, steps=4)
        asked.steps = [0, 1]
        body = self._body(asked)
        body["input"] |= {"asks": 2, "steps": 4}
        await self._clients.wait(asked, body)
        if not await self._follow(asked):
            return False
        resumed = self._new("resume", thread_id, turn=asked.turn)
        resumed.steps = [2, 3]
        body = self._body(resumed) | {"command": {"resume": "yes"}}
        del body["input"]
        await self._clients.wait(resumed, body)
        return await self._follow(resumed)

    async def _idempotent(self, thread_id: str) -> bool:
        """Asked for with one key several times, of several pods, mostly without an answer."""
        asked = self._new("idempotent", thread_id)
        body = self._body(asked, seconds=0.1)
        for _ in range(self._random.randint(1, 3)):
            with suppress(TimeoutError):
                async with asyncio.timeout(self._random.uniform(0.0, 0.05)):
                    await self._clients.post(asked, body, key=asked.name)
        await self._post_until_accepted(asked, body)
        await self._clients.post(asked, body, key=asked.name)
        return await self._follow(asked)

    async def _cancel(self, thread_id: str) -> bool:
        """A long run that is stopped or undone; asked for until somebody has heard it."""
        asked = self._new("cancel", thread_id, steps=_LONG_STEPS)
        action, outcome = self._random.choice((("interrupt", "interrupted"), ("rollback", GONE)))
        begun = now()
        await self._post_until_accepted(asked, self._body(asked, seconds=_LONG_STEP_SECONDS))
        if not asked.accepted:
            return False
        await asyncio.sleep(self._random.uniform(0.0, 1.0))
        asked.may = [outcome, "success"]
        while not await self._clients.cancel(asked, action, wait=self._random.random() < 0.5):
            if not self._time_left():
                return False
            await asyncio.sleep(0.05)
        if now() - begun < _IN_TIME_SECONDS:
            asked.may = [outcome]
        await self._follow(asked)
        return bool(asked.told)

    async def _strategy(self, thread_id: str) -> bool:
        """A second run on the thread of a long one, that makes way for it or does not."""
        strategy = self._random.choice(("interrupt", "rollback", "reject"))
        first = self._new("first", thread_id, steps=8 if strategy == "reject" else _LONG_STEPS)
        begun = now()
        await self._post_until_accepted(first, self._body(first, seconds=_LONG_STEP_SECONDS))
        if not first.accepted:
            return False
        await asyncio.sleep(self._random.uniform(0.0, 1.0))
        second = self._new(f"by {strategy}", thread_id)
        body = self._body(second, seconds=0.1) | {"multitask_strategy": strategy}
        if strategy == "reject":
            await self._clients.post(second, body)
            return await self._follow(first) and (second.refused or await self._follow(second))
        outcome = "interrupted" if strategy == "interrupt" else GONE
        first.may = [outcome, "success"]
        await self._post_until_accepted(second, body)
        if second.accepted and now() - begun < _IN_TIME_SECONDS:
            first.may = [outcome]
        await self._follow(first)
        return await self._follow(second)

    async def _later(self, thread_id: str) -> bool:
        asked = self._new("later", thread_id)
        seconds = self._random.randint(1, 3)
        asked.not_before = now() + seconds
        await self._clients.post(asked, self._body(asked) | {"after_seconds": seconds})
        return await self._follow(asked)

    async def _cron(self, thread_id: str) -> bool:
        """A cron that makes a run each second, for as long as there is load."""
        asked = self._new("cron", thread_id, steps=1)
        body = self._body(asked, seconds=0.02)
        del body["metadata"], body["if_not_exists"]
        body |= {"schedule": "* * * * * *", "on_run_completed": "keep"}
        while not asked.accepted and self._time_left():
            await self._clients.create_cron(asked, body)
            await asyncio.sleep(0.05)
        await self._stopping.wait()
        asked.deleted_at = now()
        while asked.accepted and not await self._clients.delete_cron(asked) and self._time_left():
            await asyncio.sleep(0.05)
        return False

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
        told = {"webhook": self._webhook} if asked.kind in _WITH_WEBHOOK else {}
        return {
            **told,
            "assistant_id": "chaos",
            "input": {
                "turn": asked.turn,
                "steps": len(asked.steps),
                "seconds": seconds,
                "asks": -1,
            },
            "metadata": {"chaos": asked.name},
            "config": {"recursion_limit": 2 * _LONG_STEPS},
            "if_not_exists": "create",
        }

    def _streamed(self, asked: Asked, *, seconds: float | None = None) -> dict[str, Any]:
        return self._body(asked, seconds=seconds) | {"stream_mode": ["custom"]}

    async def _post_until_accepted(self, asked: Asked, body: dict[str, Any]) -> None:
        """With a key, so that one run comes of it."""
        while not asked.accepted and self._time_left():
            await self._clients.post(asked, body, key=asked.name)
            if not asked.accepted:
                await asyncio.sleep(0.05)

    async def _follow(self, asked: Asked) -> bool:
        """Ask whoever answers how an accepted run has ended, until somebody says it."""
        while asked.accepted and not asked.told and self._time_left():
            if asked.may == ["success"]:
                await self._clients.join(asked)
            else:
                await self._clients.ask_status(asked)
            await asyncio.sleep(0.05)
        return bool(asked.told) and asked.told[-1] in asked.may

    def _time_left(self) -> bool:
        return asyncio.get_running_loop().time() < self._follow_until
