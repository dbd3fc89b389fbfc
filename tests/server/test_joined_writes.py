"""Head and body of an answer leave in one packet; no head is held for long."""

import asyncio
from time import monotonic

import pytest
import uvloop

from headrace.server.joined_writes import JoinedWrites
from tests.support.pace import within

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class _Kept(asyncio.Transport):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[bytes | str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.told.append(bytes(data))

    def write_eof(self) -> None:
        self.told.append("eof")

    def can_write_eof(self) -> bool:
        return True

    def close(self) -> None:
        self.told.append("close")

    def abort(self) -> None:
        self.told.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.told or "abort" in self.told

    def get_write_buffer_size(self) -> int:
        return 7


async def test_head_and_body_are_one_write() -> None:
    kept = _Kept()
    joined = JoinedWrites(kept)
    joined.write(HEAD)
    joined.write(b"body")
    joined.write(b"more")
    await asyncio.sleep(0)
    assert kept.told == [HEAD + b"body", b"more"]


async def test_a_head_alone_is_sent_soon() -> None:
    kept = _Kept()
    joined = JoinedWrites(kept)
    joined.write(HEAD)
    await asyncio.sleep(0)
    assert kept.told == []
    began = monotonic()
    while not kept.told:
        await asyncio.sleep(0.01)
    assert monotonic() - began < within(1)
    assert kept.told == [HEAD]
    joined.write(b"an event")
    assert kept.told == [HEAD, b"an event"]


async def test_a_large_body_is_not_copied() -> None:
    kept = _Kept()
    joined = JoinedWrites(kept)
    body = b"x" * 1_000_000
    joined.write(HEAD)
    joined.write(body)
    assert kept.told == [HEAD, body]


async def test_the_end_comes_after_the_head() -> None:
    for end in ("close", "write_eof", "bare"):
        kept = _Kept()
        joined = JoinedWrites(kept)
        joined.write(HEAD)
        if end == "bare":
            assert joined.bare is kept
        else:
            getattr(joined, end)()
        await asyncio.sleep(0)
        assert kept.told == [HEAD, *{"close": ["close"], "write_eof": ["eof"]}.get(end, [])]


async def test_nothing_is_sent_after_an_abort() -> None:
    kept = _Kept()
    joined = JoinedWrites(kept)
    joined.write(HEAD)
    joined.abort()
    await asyncio.sleep(0.2)
    assert kept.told == ["abort"]
    assert joined.is_closing()
    assert joined.get_write_buffer_size() == 7


async def test_a_client_that_waits_before_its_body_is_answered_at_once() -> None:
    kept = _Kept()
    JoinedWrites(kept).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert kept.told == [b"HTTP/1.1 100 Continue\r\n\r\n"]


async def test_an_answer_without_a_body_is_sent_when_it_ends() -> None:
    kept = _Kept()
    joined = JoinedWrites(kept)
    joined.write(HEAD)
    joined.flush()
    joined.flush()
    assert kept.told == [HEAD]


@pytest.mark.parametrize("waits", [False, True])
async def test_no_body_is_sent_without_its_head(waits: bool) -> None:
    """The client has sent all it has to send, and still reads: the transport is closing."""
    kept = _Kept()
    joined = JoinedWrites(kept)
    kept.close()
    body = b"x" * 1_000_000
    joined.write(HEAD)
    if waits:
        await asyncio.sleep(0.2)
    joined.write(body)
    assert kept.told == ["close", HEAD, body]


class _Answering(asyncio.Protocol):
    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        self.transport = JoinedWrites(transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(HEAD)
        self.transport.write(b"body")


def test_a_client_gets_both_with_one_read() -> None:
    """On the loop of the server, which makes a system call of each write."""

    async def ask() -> bytes:
        server = await asyncio.get_running_loop().create_server(_Answering, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"ask")
        found = await reader.read(1000)
        writer.close()
        server.close()
        return found

    assert uvloop.run(ask()) == HEAD + b"body"
