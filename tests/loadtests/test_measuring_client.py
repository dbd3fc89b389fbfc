"""The client of measurements, against a server that cuts its answers in every way."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest

from loadtests.measuring.apart import drive
from loadtests.measuring.client import Course, Load, Outcome, Visitor, repeat
from loadtests.measuring.http_stream import HttpStream, request

PLAIN = b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n{"a":"bcd"}'
CHUNKED = (
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":\r\n6\r\n"bcd"}\r\n0\r\n\r\n'
)
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
STREAM = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\ne\r\nevent: end\r\n\r\n\r\n0\r\n\r\n"
)
BUSY = b"HTTP/1.1 503 Busy\r\nRetry-After: 0.01\r\nContent-Length: 2\r\n\r\n{}"


@dataclass
class Scripted:
    """Answers each request with the next of its answers, in pieces of ``size`` bytes."""

    answers: list[bytes]
    size: int = 1_000_000
    asked: int = 0
    under_way: int = 0
    #: How many requests were answered when each connection came.
    answered_before: list[int] = field(default_factory=list)

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.answered_before.append(self.asked)
        self.under_way += 1
        try:
            await self._answer(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            self.under_way -= 1

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readline():
            length = 0
            while head not in (b"\r\n", b""):
                if head.lower().startswith(b"content-length:"):
                    length = int(head.split(b":")[1])
                head = await reader.readline()
            await reader.readexactly(length)
            answer = self.answers[self.asked % len(self.answers)]
            self.asked += 1
            for start in range(0, len(answer), self.size):
                writer.write(answer[start : start + self.size])
                await writer.drain()
                if self.size < len(answer):
                    await asyncio.sleep(0)
            if answer == b"":
                break

    @asynccontextmanager
    async def served(self) -> AsyncIterator[int]:
        """On this port, until all clients are gone."""
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        async with server:
            yield server.sockets[0].getsockname()[1]
            async with asyncio.timeout(10):
                while self.under_way:
                    await asyncio.sleep(0.01)
        await asyncio.sleep(0.01)


async def run(scripted: Scripted, load: Load) -> Outcome:
    async with scripted.served() as port:
        return await Course(replace(load, port=port)).run(lambda: None, lambda: None)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("answer", [PLAIN, CHUNKED, STREAM, EMPTY])
async def test_an_answer_is_complete_however_it_is_cut(answer, size):
    async with Scripted([answer], size).served() as port:
        loop = asyncio.get_running_loop()
        _, stream = await loop.create_connection(HttpStream, "127.0.0.1", port)
        for _ in range(2):
            reply = await asyncio.wait_for(stream.ask(request("POST", "/", {"x": 1})), 5)
            assert reply.head + b"\r\n\r\n" + reply.body == answer
            if answer in (PLAIN, CHUNKED):
                assert reply.json() == {"a": "bcd"}
        stream.close()


async def test_what_is_measured_is_counted_and_preparation_is_not():
    async def script(visitor: Visitor) -> None:
        await visitor.ask(request("GET", "/prepare"), "prepare")
        await visitor.begin()
        while True:
            await visitor.ask(request("GET", "/x"), "x")
            visitor.outcome.note("own", 1.0)

    found = await run(Scripted([STREAM]), Load(0, script, connections=3, seconds=0.3))
    assert set(found.statuses) == {"x"}
    assert found.good("x") == found.ends["x"] == len(found.latencies["x"]) > 3
    assert found.failed() == 0
    assert len(found.notes["own"]) >= found.good("x")
    assert found.seconds == pytest.approx(0.3, abs=0.2)
    assert found.per_second("x") == found.good("x") / found.seconds


@pytest.mark.parametrize("prepared", [False, True])
async def test_connections_come_one_after_the_other_each_answered_before_the_next(prepared):
    """Otherwise one process of a server with two may get them all."""

    async def prepare(visitor: Visitor) -> None:
        await visitor.ask(request("GET", "/prepare"), "prepare")
        await visitor.begin()

    script = prepare if prepared else repeat(request("GET", "/"), "x")
    scripted = Scripted([PLAIN])
    found = await run(scripted, Load(0, script, connections=8, seconds=0.2))
    assert len(scripted.answered_before) == 8
    assert all(number <= answered for number, answered in enumerate(scripted.answered_before))
    assert found.failed() == 0


@pytest.mark.parametrize("honour", [False, True])
async def test_refusals_are_counted_and_waited_out_on_demand(honour):
    load = Load(0, repeat(request("GET", "/"), "x"), 1, 0.3, honour_retry_after=honour)
    found = await run(Scripted([BUSY, PLAIN]), load)
    refused, good = found.statuses["x"][503], found.statuses["x"][200]
    assert good > 0
    assert abs(refused - good) <= 1
    assert found.failed() == refused
    # A wait of 10 ms before every second request.
    assert (refused < 35) is honour


async def test_a_broken_connection_is_counted_and_the_script_begins_anew():
    answers = [PLAIN] * 5 + [b""]
    found = await run(
        Scripted(answers), Load(0, repeat(request("GET", "/"), "x"), connections=1, seconds=1.5)
    )
    assert found.broken >= 1
    assert found.good("x") > 5


async def test_the_pieces_of_a_timed_answer():
    async def script(visitor: Visitor) -> None:
        await visitor.begin()
        while True:
            reply = await visitor.ask(request("GET", "/"), "x", timed=True)
            assert reply.heard is not None
            assert b"".join(piece for _, piece in reply.heard) == STREAM
            visitor.outcome.note("pieces", len(reply.heard))

    found = await run(Scripted([STREAM], size=20), Load(0, script, connections=1, seconds=0.2))
    assert found.notes["pieces"]


async def test_a_process_of_its_own_tells_what_it_cost():
    async with Scripted([PLAIN]).served() as port:
        load = Load(port, repeat(request("GET", "/"), "x"), 2, 0.5)
        found = await asyncio.to_thread(drive, load)
    assert found.statuses["x"] == Counter({200: found.good("x")})
    assert 0 < found.cpu_seconds < found.seconds
