"""Requests at a set rate, whether or not the server keeps up: the scripts of the sizing row.

Each visitor has its own part of the schedule. A request that is due while the one before is under
way is sent as soon as that one is answered; how late it was is noted. So a slow server does not
slow down what is asked of it, as long as there are visitors enough.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from math import ceil
from uuid import uuid4

from loadtests.measuring.client import Visitor
from loadtests.measuring.http_stream import request

#: Names of the requests.
CREATE, WAIT, STATE, RUN, JOIN = "create", "wait", "state", "run", "join"
#: Seconds by which a request was sent after it was due.
LATE = "late"

#: A thread gets its next run after so long: a run of one second has surely ended.
_THREAD_SECONDS = 4.0
#: Writers for each request a second. A background run is accepted at once, a wait takes its second.
_WRITERS_PER_REQUEST = {CREATE: 0.25, WAIT: 1.6}
_READERS_PER_REQUEST = 0.5
_LEAST = 16
#: Reads are of runs as young as this many creations ago, and so both running and ended.
_RECENT = 1024


@dataclass(frozen=True)
class Schedule:
    """``rate`` runs are made each second by ``how``, and ``reads`` answers read beside.

    A read asks for a thread's state, for a run, or joins it, in turn.
    """

    rate: float
    how: str = CREATE
    reads: float = 0.0
    #: Thread and run of the latest creations; all visitors of the process share it.
    recent: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=_RECENT))

    @property
    def writers(self) -> int:
        return max(_LEAST, ceil(self.rate * _WRITERS_PER_REQUEST[self.how]))

    @property
    def readers(self) -> int:
        return max(_LEAST, ceil(self.reads * _READERS_PER_REQUEST)) if self.reads else 0

    @property
    def visitors(self) -> int:
        return self.writers + self.readers

    async def __call__(self, visitor: Visitor) -> None:
        if visitor.number < self.writers:
            await self._write(visitor)
        else:
            await self._read(visitor)

    async def _write(self, visitor: Visitor) -> None:
        pause = self.writers / self.rate
        threads = [str(uuid4()) for _ in range(ceil(_THREAD_SECONDS / pause) + 1)]
        for thread_id in threads:
            await visitor.ask(request("POST", "/threads", {"thread_id": thread_id}), "threads")
        body = {
            "assistant_id": "work",
            "input": {"messages": [{"role": "user", "content": "Work for a second."}]},
        }
        last = "/wait" if self.how == WAIT else ""
        asked = [request("POST", f"/threads/{one}/runs{last}", body) for one in threads]
        await visitor.begin()
        turns = cycle(zip(threads, asked, strict=True))
        async for _ in _due(visitor, pause, visitor.number / self.rate):
            thread_id, data = next(turns)
            reply = await visitor.ask(data, self.how)
            if self.how == CREATE and reply.status == 200:
                self.recent.append((thread_id, reply.json()["run_id"]))

    async def _read(self, visitor: Visitor) -> None:
        await visitor.begin()
        kinds = cycle((STATE, RUN, JOIN))
        number = visitor.number - self.writers
        # Readers begin with different kinds.
        turns = islice(kinds, number % 3, None)
        async for _ in _due(visitor, self.readers / self.reads, number / self.reads):
            kind = next(turns)
            if not self.recent:
                continue
            thread_id, run_id = self.recent[(number * 37) % len(self.recent)]
            paths = {STATE: "/state", RUN: f"/runs/{run_id}", JOIN: f"/runs/{run_id}/join"}
            await visitor.ask(request("GET", f"/threads/{thread_id}{paths[kind]}"), kind)


async def _due(visitor: Visitor, pause: float, first: float) -> AsyncIterator[None]:
    """Again and again, at this visitor's times; ends only with the script."""
    due = time.perf_counter() + first
    while True:
        now = time.perf_counter()
        if due > now:
            await asyncio.sleep(due - now)
        if visitor.in_time:
            visitor.outcome.note(LATE, max(0.0, time.perf_counter() - due))
        yield
        due += pause
