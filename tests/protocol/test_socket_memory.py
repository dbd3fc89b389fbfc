"""What clients send on WebSockets takes its memory and its rate where bodies take theirs."""

import asyncio
import json
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from tests.support.live import LiveServer, live_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

_MEBIBYTE = 2**20
#: The memory for bodies in these tests, and what each of many clients begins to send.
_BOUND, _MESSAGE = 8 * _MEBIBYTE, 7 * _MEBIBYTE
_PER_SECOND = 20
TREE = json.dumps({"id": 1, "method": "agent.getTree"})


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    with live_server(
        tmp_path_factory.mktemp("memory"),
        module_database,
        processes=1,
        HEADRACE_REQUESTS__BODIES_BYTES=str(_BOUND),
        HEADRACE_REQUESTS__BODIES_WAIT_SECONDS="1",
        HEADRACE_CALLERS__REQUESTS_PER_SECOND=str(_PER_SECOND),
        HEADRACE_CALLERS__BURST_SECONDS="2",
    ) as opened:
        yield opened


def address(server: LiveServer) -> str:
    return f"{server.url.replace('http', 'ws', 1)}/threads/{uuid4()}/stream/events"


def memory(server: LiveServer) -> int:
    (pid,) = server.serving()
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        found = next(line for line in status if line.startswith("VmRSS:"))
    return int(found.split()[1]) * 1024


def started(message: bytes, *, fin: bool = False) -> bytes:
    """The first frame of a message as a client sends it."""
    return Frame(Opcode.TEXT, message, fin=fin).serialize(mask=True)


async def test_messages_that_have_begun_take_no_more_memory_than_bodies(server):
    frame = started(b" " * _MESSAGE)
    async with connect(address(server)) as usual:
        await usual.send(TREE)
        assert json.loads(await usual.recv())["error"] == "no_such_run"
        before = memory(server)
        sockets = [await connect(address(server)) for _ in range(20)]
        try:
            for one in sockets:
                # The rest of the message never comes.
                one.transport.write(frame)
            async with asyncio.timeout(20):
                # Others waited for memory: those that brought nothing for too long are sent away.
                closed = [asyncio.create_task(one.wait_closed()) for one in sockets]
                await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
            assert memory(server) - before < 3 * _BOUND
            await usual.send(TREE)
            assert json.loads(await usual.recv())["error"] == "no_such_run"
            codes = [one.close_code for one in sockets if one.close_code is not None]
            assert set(codes) == {1013}
        finally:
            for one in sockets:
                one.transport.abort()
    await eventually(
        lambda: server.report()["processes"][0]["gates"]["thread_streams"]["held"] == 0
    )
    # All of it comes back: a large command is carried out.
    text = json.dumps({"id": 7, "method": "agent.getTree", "params": {"text": "x" * _MESSAGE}})
    async with connect(address(server)) as usual:
        for _ in range(3):
            await usual.send(text)
            assert json.loads(await usual.recv())["error"] == "no_such_run"
        parts = (text[at : at + 100_000] for at in range(0, len(text), 100_000))
        await usual.send(parts)
        assert json.loads(await usual.recv())["id"] == 7


async def test_texts_that_are_no_commands_count_too(server):
    async with connect(address(server)) as socket:
        told = []
        for _ in range(4 * _PER_SECOND):
            await socket.send('{"id": 1, "method": 5}')
            told.append(json.loads(await socket.recv())["message"])
    assert any("requests a second" in one for one in told)


async def test_binary_messages_are_refused(server):
    await asyncio.sleep(2)
    async with connect(address(server)) as socket:
        await socket.send(b"x" * _MEBIBYTE)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1003
