"""What is asked of every contender. Light to import: the client's process does.

All that is measured by rate runs in a closed loop on keep-alive connections. Threads are made with
``if_not_exists``, with a new id for each run, so that everything is kept.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from loadtests.measuring.client import Repeated, Visitor
from loadtests.measuring.http_stream import HttpStream, Reply, request

_LONG = 200
_MARK = b"THREAD-ID"


class NotPrepared(Exception):
    """A contender refused what a workload needs before it begins; with what it said."""


@dataclass(frozen=True)
class Traits:
    """What a workload must know of who is asked."""

    #: A run continues the conversation of its thread.
    remembers: bool = True
    empty_path: str = "/livez"


@dataclass(frozen=True)
class HttpWorkload:
    """``script`` makes what every connection does."""

    name: str
    title: str
    script: Callable[[Traits], Callable[[Visitor], Awaitable[None]]]


@dataclass(frozen=True)
class OnThread:
    """A request about one thread, made beforehand but for its id."""

    head: bytes
    tail: bytes

    @classmethod
    def of(cls, method: str, path: str, body: Any = None) -> "OnThread":
        """``path`` with ``{}`` where the thread's id goes."""
        data = request(method, path.format(_MARK.decode()), body)
        head, _, tail = data.partition(_MARK)
        return cls(head, tail)

    def about(self, thread_id: str) -> bytes:
        return self.head + thread_id.encode() + self.tail


def run_body(assistant: str, messages: list[dict[str, str]]) -> dict[str, Any]:
    return {
        "assistant_id": assistant,
        "input": {"messages": messages},
        "if_not_exists": "create",
        "stream_mode": ["values"],
    }


_HELLO = [{"role": "user", "content": "hi"}]
_WAIT = OnThread.of("POST", "/threads/{}/runs/wait", run_body("trivial", _HELLO))
_STREAM = OnThread.of("POST", "/threads/{}/runs/stream", run_body("trivial", _HELLO))
_STATE = OnThread.of("GET", "/threads/{}/state")
_STATELESS = request("POST", "/runs/wait", run_body("trivial", _HELLO))


@dataclass(frozen=True)
class FreshThreads:
    """One request for each of ever new threads."""

    name: str
    asked: OnThread

    async def __call__(self, visitor: Visitor) -> None:
        await visitor.connect()
        await visitor.begin()
        while True:
            await visitor.ask(self.asked.about(str(uuid4())), self.name)


@dataclass(frozen=True)
class OneThread:
    """One request again and again about a thread of this connection that has a run already."""

    name: str
    seed: OnThread | None
    asked: OnThread

    async def __call__(self, visitor: Visitor) -> None:
        thread_id = str(uuid4())
        if self.seed is not None:
            reply = await visitor.ask(self.seed.about(thread_id))
            require_ok(reply)
        await visitor.connect()
        await visitor.begin()
        again = self.asked.about(thread_id)
        while True:
            await visitor.ask(again, self.name)


def require_ok(reply: Reply) -> None:
    """
    :raises NotPrepared: the answer has a status from 300 on.
    """
    if reply.status >= 300:
        raise NotPrepared(f"{reply.status}: {reply.body[:200].decode(errors='replace')}")


def _turns(name: str, traits: Traits, messages_before: int) -> OneThread:
    """Runs on a thread that keeps its length: ids are those of the messages before.

    A server that does not remember is sent the whole conversation.
    """
    said = [
        {"role": ("user", "assistant")[number % 2], "content": "hello " * 5, "id": f"m{number}"}
        for number in range(messages_before - 2)
    ]
    asked = {"role": "user", "content": "hi", "id": "question"}
    whole = OnThread.of("POST", "/threads/{}/runs/wait", run_body("steady", [*said, asked]))
    turn = OnThread.of("POST", "/threads/{}/runs/wait", run_body("steady", [asked]))
    return OneThread(name, whole, turn) if traits.remembers else OneThread(name, None, whole)


WORKLOADS = {
    one.name: one
    for one in (
        HttpWorkload("wait", "runs/wait", lambda _: FreshThreads("wait", _WAIT)),
        HttpWorkload("stream", "runs/stream", lambda _: FreshThreads("stream", _STREAM)),
        HttpWorkload("second_turn", "second turn", lambda traits: _turns("second_turn", traits, 2)),
        HttpWorkload(
            "long_thread",
            "a turn after 200 messages",
            lambda traits: _turns("long_thread", traits, _LONG),
        ),
        HttpWorkload(
            "threads",
            "POST /threads",
            lambda _: Repeated(request("POST", "/threads", {}), "threads"),
        ),
        HttpWorkload("state", "GET state", lambda _: OneThread("state", _WAIT, _STATE)),
        HttpWorkload(
            "stateless",
            "runs/wait, deleted afterwards",
            lambda _: Repeated(
                request(
                    "POST", "/runs/wait", {"assistant_id": "trivial", "input": {"messages": _HELLO}}
                ),
                "stateless",
            ),
        ),
        HttpWorkload(
            "empty",
            "an empty route",
            lambda traits: Repeated(request("GET", traits.empty_path), "empty"),
        ),
    )
}


@dataclass(frozen=True)
class Alternating:
    """Lone runs of two servers in turn, so that whatever the machine does it does to both.

    The visitor's connection is to the first; seconds are noted under the two names.
    """

    names: tuple[str, str]
    other_port: int
    pairs: int
    warm_up: int = 30
    asked: OnThread = field(default=_WAIT)

    async def __call__(self, visitor: Visitor) -> None:
        await visitor.connect()
        other = await HttpStream.open("127.0.0.1", self.other_port)
        await visitor.begin()
        for number in range(self.warm_up + self.pairs):
            for which in ((0, 1), (1, 0))[number % 2]:
                data = self.asked.about(str(uuid4()))
                reply = await (visitor.ask(data, self.names[0]) if which == 0 else other.ask(data))
                require_ok(reply)
                if number >= self.warm_up:
                    visitor.outcome.note(self.names[which], reply.seconds)
        other.close()
