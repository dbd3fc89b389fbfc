"""WebSockets of the user's own app, which strangers may open: how many, how large, how fast."""

import asyncio
import base64
import os
import signal
import time
from contextlib import suppress

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode

from tests.edge.test_socket_messages import sent
from tests.support.apps import write_manifest
from tests.support.live import live_server
from tests.support.waiting import eventually

pytestmark = pytest.mark.acceptance

KEY = "a-key-of-the-tests-1"
_MEBIBYTE = 2**20
#: Places for sockets; one address has three quarters.
_PLACES, _SHARE = 8, 6
_PER_SECOND = 200
_MOST_BYTES = 256 * 1024
APP = """
import asyncio
from fastapi import FastAPI, WebSocket

app = FastAPI()

@app.websocket("/echo")
async def echo(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text(str(len(await websocket.receive_text())))

@app.websocket("/push")
async def push(websocket: WebSocket):
    await websocket.accept()
    while True:
        await websocket.send_text("x" * 100_000)

@app.websocket("/deaf")
async def deaf(websocket: WebSocket):
    await websocket.accept()
    await asyncio.sleep(5)

@app.websocket("/late")
async def late(websocket: WebSocket):
    await asyncio.sleep(1)
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
"""


@pytest.fixture(scope="module")
def server(module_database, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sockets")
    (folder / "hr_app_sockets.py").write_text(APP)
    manifest = write_manifest(folder, http={"app": "./hr_app_sockets.py:app"})
    with live_server(
        folder,
        module_database,
        config=manifest,
        processes=1,
        HEADRACE_API_KEYS=KEY,
        HEADRACE_SERVER__MAX_APP_SOCKETS=str(_PLACES),
        HEADRACE_SERVER__SOCKET_IDLE_SECONDS="8",
        HEADRACE_SERVER__PING_SECONDS="0.5",
        HEADRACE_SERVER__UNREAD_TIMEOUT_SECONDS="2",
        HEADRACE_SERVER__MAX_BODY_BYTES=str(_MOST_BYTES),
        HEADRACE_REQUESTS__BODIES_BYTES=str(_MOST_BYTES),
        HEADRACE_REQUESTS__BODIES_WAIT_SECONDS="1",
        HEADRACE_CALLERS__REQUESTS_PER_SECOND=str(_PER_SECOND),
        HEADRACE_CALLERS__BURST_SECONDS="0.5",
        HEADRACE_METRICS__CACHE_SECONDS="0.05",
    ) as opened:
        yield opened


def address(server, path):
    return server.url.replace("http", "ws", 1) + path


def memory(server):
    (pid,) = server.serving()
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        found = next(line for line in status if line.startswith("VmRSS:"))
    return int(found.split()[1]) * 1024


def held(server):
    return server.report()["processes"][0]["gates"]["app_sockets"]["held"]


def metrics(server):
    return httpx.get(f"{server.url}/metrics", headers={"x-api-key": KEY}).text


async def no_socket(server):
    await eventually(lambda: held(server) == 0, seconds=30)


async def open_raw(server, path):
    """A client that reads nothing by itself."""
    host, port = server.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**10)
    key = base64.b64encode(os.urandom(16)).decode()
    writer.write(
        f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    head = await reader.readuntil(b"\r\n\r\n")
    assert b" 101 " in head
    return writer


async def send_for(seconds, writer, data):
    """Send without pause, as far as the server reads."""
    ends_at = time.monotonic() + seconds
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(seconds):
            while time.monotonic() < ends_at:
                writer.write(data)
                await writer.drain()


async def test_one_address_has_its_share_and_the_api_goes_on(server):
    sockets = [await connect(address(server, "/echo")) for _ in range(_SHARE)]
    try:
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(server, "/echo"))
        answer = refused.value.response
        assert answer.status_code == 429
        assert b"caller_share_used" in answer.body
        assert b"max_app_sockets" in answer.body
        async with httpx.AsyncClient(base_url=server.url, headers={"x-api-key": KEY}) as client:
            assert (await client.post("/threads", json={})).status_code == 200
        await sockets[0].send("abc")
        assert await sockets[0].recv() == "3"
    finally:
        for one in sockets:
            await one.close()
    await no_socket(server)
    assert 'headrace_gate_refusals_total{gate="app_sockets",reason="share"} 1.0' in metrics(server)
    assert "place_refused" in server.log()


async def test_a_client_that_reads_nothing_is_cut_though_the_app_sends(server):
    writer = await open_raw(server, "/push")
    writer.transport.pause_reading()
    await eventually(lambda: held(server) == 1)
    await no_socket(server)
    writer.transport.abort()


async def test_pings_of_a_client_that_reads_no_answers_take_no_memory(server):
    writer = await open_raw(server, "/echo")
    writer.transport.pause_reading()
    before = memory(server)
    await send_for(5, writer, sent(125, Opcode.PING) * 500)
    assert memory(server) - before < 10 * _MEBIBYTE
    writer.transport.abort()
    await no_socket(server)


async def test_small_messages_wait_as_bytes(server):
    before = memory(server)
    writers = [await open_raw(server, "/deaf") for _ in range(_SHARE)]
    for one in writers:
        one.write(sent(0) * 80_000)
    await asyncio.sleep(2)
    assert memory(server) - before < 10 * _MEBIBYTE
    for one in writers:
        one.transport.abort()


async def test_a_message_without_end_is_closed(server):
    await no_socket(server)
    async with connect(address(server, "/echo")) as socket:
        socket.transport.write(sent(1, fin=False))
        socket.transport.write(sent(0, Opcode.CONT, fin=False) * 5_000)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1009


async def test_half_messages_take_no_more_memory_than_bodies(server):
    await no_socket(server)
    sockets = [await connect(address(server, "/echo")) for _ in range(_SHARE)]
    for one in sockets:
        one.transport.write(sent(_MOST_BYTES - 1000, fin=False))
    async with asyncio.timeout(20):
        closed = [asyncio.create_task(one.wait_closed()) for one in sockets]
        await asyncio.wait(closed, return_when=asyncio.FIRST_COMPLETED)
    assert 1013 in {one.close_code for one in sockets}
    for one in sockets:
        one.transport.abort()
    await no_socket(server)


async def test_a_client_that_sends_without_pause_is_read_slower(server):
    async with connect(address(server, "/echo")) as socket:
        began = time.monotonic()
        # Longer than a ping may go unanswered: the answer stands behind the messages.
        socket.transport.write(sent(1) * (4 * _PER_SECOND))
        for _ in range(4 * _PER_SECOND):
            assert await socket.recv() == "1"
        assert time.monotonic() - began > 3.4
    assert 'gate="socket_rate",reason="share"' in metrics(server)


async def test_a_socket_on_which_nobody_says_anything_is_closed(server):
    async with connect(address(server, "/echo")) as socket:
        began = time.monotonic()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
        assert "8 s" in (socket.close_reason or "")
        assert time.monotonic() - began > 7.5
    await no_socket(server)
    assert 'headrace_connections_cut_total{reason="idle_socket"}' in metrics(server)
    # Apps of tutorials do not look whether their client has left.
    assert "Exception in ASGI application" not in server.log()


async def test_an_app_may_take_its_time_to_accept(server):
    async with connect(address(server, "/late")) as socket:
        await socket.send("hello")
        assert await socket.recv() == "hello"


async def test_a_drain_tells_sockets_to_come_again(server):
    async with connect(address(server, "/echo")) as socket:
        server.signal(signal.SIGTERM)
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1012
    assert server.wait_exit(20) == 0
