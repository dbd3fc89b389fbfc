"""Many WebSockets at once, and clients that vanish without a word: their places come back."""

import asyncio
import base64
import os
import socket
import struct
from pathlib import Path
from uuid import uuid4

import pytest
from websockets.asyncio.client import connect

from tests.support.live import LiveServer, live_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

_SOCKETS = 200
_MEBIBYTE = 2**20
#: Of the server, for each connection: two buffers, a task and its stream.
_MOST_BYTES_EACH = 150_000


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    with live_server(
        tmp_path_factory.mktemp("crowd"),
        module_database,
        processes=1,
        HEADRACE_SERVER__PING_SECONDS="0.3",
        HEADRACE_SERVER__UNREAD_TIMEOUT_SECONDS="1",
        HEADRACE_METRICS__CACHE_SECONDS="0.05",
    ) as opened:
        yield opened


def fds(server: LiveServer) -> int:
    (pid,) = server.serving()
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def memory(server: LiveServer) -> int:
    (pid,) = server.serving()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def held(server: LiveServer) -> int:
    """Places for streams of threads that are taken."""
    (process,) = server.report()["processes"]
    found: int = process["gates"]["thread_streams"]["held"]
    return found


def path() -> str:
    return f"/threads/{uuid4()}/stream/events"


async def test_two_hundred_sockets_take_little_and_give_all_back(server):
    async def opened():
        return await connect(server.url.replace("http", "ws", 1) + path())

    # What the first ones load stays.
    for one in await asyncio.gather(*(opened() for _ in range(10))):
        await one.close()
    await eventually(lambda: held(server) == 0)
    fds_before, memory_before = fds(server), memory(server)
    sockets = await asyncio.gather(*(opened() for _ in range(_SOCKETS)))
    try:
        await eventually(lambda: held(server) == _SOCKETS)
        assert server.get("/ok").status_code == 200
        assert memory(server) - memory_before < _SOCKETS * _MOST_BYTES_EACH + 8 * _MEBIBYTE
    finally:
        await asyncio.gather(*(one.close() for one in sockets))
    await eventually(lambda: held(server) == 0)
    await eventually(lambda: fds(server) <= fds_before + 3)


def vanished(server: LiveServer) -> socket.socket:
    """A connection whose client neither reads nor answers any more, and does not close it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    opened = socket.create_connection((host, int(port)), timeout=10)
    key = base64.b64encode(os.urandom(16)).decode()
    opened.sendall(
        f"GET {path()} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert opened.recv(4096).startswith(b"HTTP/1.1 101 ")
    return opened


async def test_clients_that_vanish_give_their_places_back(server):
    await eventually(lambda: held(server) == 0)
    before = fds(server)
    gone = await asyncio.gather(*(asyncio.to_thread(vanished, server) for _ in range(30)))
    try:
        # One that has broken off in the middle of a message.
        gone[0].sendall(b"\x81\xfe" + struct.pack("!H", 1000) + b"\0\0\0\0" + b"{" * 10)
        await eventually(lambda: held(server) == 0)
        await eventually(lambda: fds(server) <= before + 3)
    finally:
        for one in gone:
            one.close()
