"""A cheap HTTP client for measurements: keep-alive connections, each with one request under way.

A *script* is an asynchronous function that one visitor runs on its connection: it prepares what it
needs, calls ``begin`` (all visitors wait there for each other), and then asks in a loop until
``TimeIsUp`` ends it. Only answers between beginning and end are counted.

``loadtests.measuring.apart`` runs this in a process of its own, so that its processor time is told
apart from everything else.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from loadtests.measuring.http_stream import ConnectionBroken, HttpStream, Listener, Reply, request

_END_EVENT = b"event: end"
_RETRY_SECONDS = 1.0
#: What a connection asks first; any answer shows that a process of the server has taken it.
_FIRST_PATH = "/livez"


class TimeIsUp(Exception):
    """The measured time is over: a script ends here."""


@dataclass
class Outcome:
    """What the measured time held, for requests by the name that their script gave them."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    latencies: dict[str, list[float]] = field(default_factory=dict)
    #: Answers that held ``event: end``, the last event of a complete stream.
    ends: Counter[str] = field(default_factory=Counter)
    bytes_read: int = 0
    #: Connections that broke with a request under way.
    broken: int = 0
    #: Requests that had no answer a while after the end.
    unanswered: int = 0
    #: What a script keeps by itself, for example times to a first token.
    notes: dict[str, list[float]] = field(default_factory=dict)
    #: What a script says of failures that no status tells.
    faults: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, reply: Reply) -> None:
        self.statuses.setdefault(name, Counter())[reply.status] += 1
        self.latencies.setdefault(name, []).append(reply.seconds)
        self.bytes_read += len(reply.head) + len(reply.body)
        if _END_EVENT in reply.body:
            self.ends[name] += 1

    def note(self, name: str, value: float) -> None:
        self.notes.setdefault(name, []).append(value)

    def good(self, name: str) -> int:
        """Answers with a status below 400."""
        found = self.statuses.get(name, Counter())
        return sum(count for status, count in found.items() if status < 400)

    def failed(self) -> int:
        """Answers with any other status, and connections that broke."""
        every = sum(sum(one.values()) for one in self.statuses.values())
        return every - sum(map(self.good, self.statuses)) + self.broken

    def per_second(self, name: str) -> float:
        return self.good(name) / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Load:
    """What is asked of a server, by how many, for how long.

    ``script`` must be importable by name (or a ``partial`` of such a function with plain arguments)
    when the load runs in a process of its own.
    """

    port: int
    script: "Callable[[Visitor], Awaitable[None]]"
    connections: int = 32
    seconds: float = 5.0
    #: Asked already, but not counted: the measured time then begins amid requests, as it ends.
    settle_seconds: float = 0.0
    #: A refusal with Retry-After is waited out and the request repeated; each refusal is counted.
    honour_retry_after: bool = False
    #: Requests that are under way at the end may take so long to be answered.
    drain_seconds: float = 30.0
    #: A pause before each request.
    think_seconds: float = 0.0
    host: str = "127.0.0.1"


class Visitor:
    """One connection and what its script may do with it; ``number`` counts from 0."""

    def __init__(self, number: int, course: "Course") -> None:
        self.number = number
        self._course = course
        self._stream: HttpStream | None = None

    @property
    def outcome(self) -> Outcome:
        """Where scripts note what they measure by themselves."""
        return self._course.outcome

    @property
    def in_time(self) -> bool:
        """Whether the measured time has begun and is not over."""
        return self._course.in_time

    async def connect(self) -> None:
        """Open the connection already, where nothing is asked before the beginning.

        Visitors do so one after the other. See :meth:`Course.opened`.
        """
        await self._open()

    async def begin(self) -> None:
        """Wait until all visitors are prepared; time is measured from here, or soon after."""
        await self._course.begin()

    async def ask(
        self,
        data: bytes,
        name: str = "",
        *,
        timed: bool = False,
        listener: Listener | None = None,
    ) -> Reply:
        """Send a request and wait for its answer, which is counted under ``name`` when in time.

        :param timed: note when each piece of the answer came.
        :param listener: takes the body in pieces; the reply then holds only the end of it.
        :raises TimeIsUp: the measured time is over before anything was sent.
        """
        load = self._course.load
        if load.think_seconds and self._course.has_begun:
            await asyncio.sleep(load.think_seconds)
        while True:
            self._course.check()
            reply = await self._once(data, timed=timed, listener=listener)
            if self._course.in_time:
                self._course.outcome.add(name, reply)
            wait = reply.retry_after if reply.status in (429, 503) else None
            if not load.honour_retry_after or wait is None:
                return reply
            await asyncio.sleep(min(wait, self._course.left()))

    async def _once(self, data: bytes, *, timed: bool, listener: Listener | None) -> Reply:
        try:
            stream = await self._open()
            return await stream.ask(data, timed=timed, listener=listener)
        except (ConnectionBroken, OSError):
            if not self._course.has_begun:
                raise
            self._course.outcome.broken += self._course.in_time
            await asyncio.sleep(min(_RETRY_SECONDS, self._course.left()))
            raise BrokenVisit from None

    async def _open(self) -> HttpStream:
        if self._stream is None or not self._stream.is_open:
            self._stream = await self._course.opened()
        return self._stream

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class BrokenVisit(Exception):
    """A connection broke under a script: the script is started anew, on a new one."""


class Course:
    """One load from preparation to end."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.outcome = Outcome()
        self.has_begun = False
        self._waiting = 0
        self._working = load.connections
        self._gate = asyncio.Event()
        self._opening = asyncio.Lock()
        self._all_done = asyncio.Event()
        self._until = float("inf")
        self._cpu = 0.0

    @property
    def in_time(self) -> bool:
        return self.has_begun and time.perf_counter() < self._until

    def left(self) -> float:
        """Seconds of the measured time that are left."""
        return max(0.0, self._until - time.perf_counter())

    def check(self) -> None:
        if self.has_begun and time.perf_counter() >= self._until:
            raise TimeIsUp

    async def begin(self) -> None:
        if self.has_begun:
            return
        self._waiting += 1
        if self._waiting == self.load.connections:
            self._gate.set()
        await self._gate.wait()

    async def opened(self) -> HttpStream:
        """A new connection.

        Before the beginning each one is opened, and answered once, before the next. Connections
        that come all at once are often all taken by one process of a server whose processes share
        a socket, and then the measurement is of that one process.
        """
        load = self.load
        if self.has_begun:
            return await HttpStream.open(load.host, load.port)
        async with self._opening:
            stream = await HttpStream.open(load.host, load.port)
            await stream.ask(request("GET", _FIRST_PATH))
            return stream

    async def run(self, begun: Callable[[], None], ended: Callable[[], None]) -> Outcome:
        """Outcome once all requests under way are answered.

        :param begun: called when the measured time begins; ``ended``, when it is over.
        """
        visitors = [Visitor(number, self) for number in range(self.load.connections)]
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(self._visit(one), name=f"visitor-{one.number}")
                for one in visitors
            ]
            timer = group.create_task(self._time(begun, ended), name="measured-time")
            await timer
            _, late = await asyncio.wait(tasks, timeout=self.load.drain_seconds)
            self.outcome.unanswered = len(late)
            for task in late:
                task.cancel()
        for one in visitors:
            one.close()
        return self.outcome

    async def _time(self, begun: Callable[[], None], ended: Callable[[], None]) -> None:
        await self._gate.wait()
        await asyncio.sleep(self.load.settle_seconds)
        begun()
        started, self._cpu = time.perf_counter(), time.process_time()
        self._until, self.has_begun = started + self.load.seconds, True
        # Scripts may end by themselves before the time is over.
        with suppress(TimeoutError):
            await asyncio.wait_for(self._all_done.wait(), self.load.seconds)
        self.outcome.seconds = time.perf_counter() - started
        self.outcome.cpu_seconds = time.process_time() - self._cpu
        ended()

    async def _visit(self, visitor: Visitor) -> None:
        while True:
            try:
                await self.load.script(visitor)
            except BrokenVisit:
                continue
            except TimeIsUp:
                pass
            break
        self._working -= 1
        if not self._working:
            self._all_done.set()


def repeat(data: bytes, name: str) -> "Callable[[Visitor], Awaitable[None]]":
    """A script that asks one thing again and again."""
    return Repeated(data, name)


@dataclass(frozen=True)
class Repeated:
    """The script of ``repeat``."""

    data: bytes
    name: str

    async def __call__(self, visitor: Visitor) -> None:
        await visitor.connect()
        await visitor.begin()
        while True:
            await visitor.ask(self.data, self.name)
