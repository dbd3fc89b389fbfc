"""An agent's user, as a script of the measuring client: it streams runs and times every token.

Times come from ``time.perf_counter``, which on Linux is the clock that the model tells.
"""

import asyncio
import time
from dataclasses import dataclass
from uuid import uuid4

from loadtests.agents.tokens import Token, since, tokens_in
from loadtests.agents.workload import TOOL_SECONDS, Workload
from loadtests.measuring.client import Visitor
from loadtests.measuring.http_stream import Reply, request

RUNS = "runs"
#: What is noted, in seconds: of every token, from the model's write to the client's read.
DELAY = "delay"
#: How much longer the client waited for a token, after the one before, than the model took.
GAP = "gap"
#: The delay of the first token of each answer.
FIRST = "first_token"
#: From the request for the run until the model is asked.
START = "start"
#: From the sending of the request for the run to its first token, without the model's own time.
TO_FIRST = "to_first_token"
#: From an answer's last token until the model is asked again, without the tool's time.
BETWEEN = "between"
#: Of a complete run, from its request to the end of its stream.
RUN = "run"

#: Each event ends so, and then the chunk of HTTP that holds it.
_EVENT_END, _CHUNK_END = b"\r\n\r\n", b"\r\n"
_ENDED_WELL = b'"status":"success"'


class TokenReader:
    """Reads one run's stream: every token once, in order. Make it when the request is sent."""

    __slots__ = ("_asked_at", "_delay", "_next", "_rest", "_sent", "_visitor")

    def __init__(self, visitor: Visitor) -> None:
        self._visitor = visitor
        self._asked_at = time.perf_counter()
        self._rest = b""
        self._next = 0
        self._sent = self._delay = 0.0

    def __call__(self, at: float, piece: bytes) -> None:
        data = self._rest + piece
        if not data.endswith(_EVENT_END + _CHUNK_END):
            end = data.rfind(_EVENT_END)
            data, self._rest = data[: max(end, 0)], data[max(end, 0) :]
        else:
            self._rest = b""
        for token in tokens_in(data):
            if token.number != self._next:
                self._visitor.outcome.faults["tokens not in order"] += 1
            self._next = token.number + 1
            self._time(token, at)

    def finish(self, reply: Reply, workload: Workload) -> None:
        """Judge the whole run; its stream has ended."""
        outcome = self._visitor.outcome
        if reply.status >= 400:
            return
        if _ENDED_WELL not in reply.body:
            outcome.faults["ended badly"] += 1
        if self._next != workload.tokens_per_run:
            outcome.faults["tokens missing"] += 1
        if self._visitor.in_time:
            outcome.note(RUN, time.perf_counter() - self._asked_at)

    def _time(self, token: Token, at: float) -> None:
        delay = since(token.sent, at)
        if self._visitor.in_time:
            note = self._visitor.outcome.note
            note(DELAY, delay)
            if token.asked is None:
                note(GAP, delay - self._delay)
            else:
                note(FIRST, delay)
                if token.number:
                    note(BETWEEN, since(self._sent, token.asked) - TOOL_SECONDS)
                else:
                    start = since(self._asked_at, token.asked)
                    note(START, start)
                    note(TO_FIRST, start + delay)
        self._sent, self._delay = token.sent, delay


@dataclass(frozen=True)
class Agents:
    """Each of ``count`` visitors streams one run after the other, each on a thread of its own.

    They begin one after the other within the time of a run, so that they do not go in step. The
    measured time begins when the last one has begun.
    """

    count: int
    workload: Workload

    async def __call__(self, visitor: Visitor) -> None:
        await asyncio.sleep(self.workload.run_seconds * visitor.number / self.count)
        first = asyncio.create_task(self._run(visitor), name=f"first-run-{visitor.number}")
        await visitor.begin()
        await first
        while True:
            await self._run(visitor)

    async def _run(self, visitor: Visitor) -> None:
        thread_id = str(uuid4())
        await visitor.ask(request("POST", "/threads", {"thread_id": thread_id}), "threads")
        body = {
            "assistant_id": "agent",
            "input": {"messages": [{"role": "user", "content": "What do we know of mills?"}]},
            "stream_mode": ["messages-tuple", "values"],
            "on_disconnect": "cancel",
        }
        data = request("POST", f"/threads/{thread_id}/runs/stream", body)
        reader = TokenReader(visitor)
        reader.finish(await visitor.ask(data, RUNS, listener=reader), self.workload)
