"""The bounds of WebSockets of the user's own app, by caller."""

import asyncio

import pytest

from headrace.auth.principal import Principal
from headrace.edge.sockets import SocketBounds
from headrace.lifecycle import Tasks
from headrace.settings import Settings
from tests.support.waiting import eventually


class Server:
    """What the server does of a socket: hands messages over, and notes what is sent."""

    def __init__(self, bounds, *, address="192.0.2.1", caller=None, denial=True):
        self.sent: list[dict] = []
        self._tasks = Tasks()
        self._messages: asyncio.Queue = asyncio.Queue()
        state = {}
        headers: list[tuple[bytes, bytes]] = []
        if caller is not None:
            state["headrace_principal"] = (headers, Principal(identity="x", caller=caller))
        scope = {
            "type": "websocket",
            "path": "/",
            "headers": headers,
            "state": state,
            "client": (address, 1),
            "extensions": {"websocket.http.response": {}} if denial else {},
        }
        self.task = self._tasks.start(bounds(scope, self._messages.get, self._send), name="socket")

    async def _send(self, message):
        self.sent.append(message)
        if message["type"] == "websocket.close":
            self.say({"type": "websocket.disconnect", "code": 1000})

    def say(self, message):
        self._messages.put_nowait(message)

    async def first(self):
        await eventually(lambda: self.sent)
        return self.sent[0]

    async def leave(self):
        self.say({"type": "websocket.disconnect", "code": 1001})
        await self.task


async def app(scope, receive, send):
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] != "websocket.disconnect":
        await send({"type": "websocket.send", "text": message["text"]})


def bounds(**server) -> SocketBounds:
    return SocketBounds(app, Settings(server=server, callers={"share": 0.75}))


async def refusal(socket):
    first = await socket.first()
    await socket.task
    return first.get("status"), socket.sent[1]["body"]


async def test_each_caller_has_its_share_whatever_its_address():
    wrapped = bounds(max_app_sockets=8)
    of_key = [Server(wrapped, caller="key a", address=f"192.0.2.{n}") for n in range(6)]
    for one in of_key:
        assert (await one.first())["type"] == "websocket.accept"
    status, body = await refusal(Server(wrapped, caller="key a"))
    assert status == 429
    assert b"caller_share_used" in body
    strangers = Server(wrapped)
    assert (await strangers.first())["type"] == "websocket.accept"
    last = Server(wrapped, caller="key b")
    assert (await last.first())["type"] == "websocket.accept"
    status, body = await refusal(Server(wrapped, caller="key c"))
    assert status == 503
    assert b"too_many_sockets" in body
    for one in (*of_key, strangers, last):
        await one.leave()
    again = Server(wrapped, caller="key c")
    assert (await again.first())["type"] == "websocket.accept"
    await again.leave()


async def test_an_app_that_accepts_twice_holds_one_place():
    async def eager(scope, receive, send):
        await send({"type": "websocket.accept"})
        await app(scope, receive, send)

    wrapped = SocketBounds(eager, Settings(server={"max_app_sockets": 2}, callers={"share": 1.0}))
    for _ in range(3):
        socket = Server(wrapped)
        assert (await socket.first())["type"] == "websocket.accept"
        await socket.leave()


async def test_messages_use_up_no_requests():
    limits = {"requests_per_second": 1, "burst_seconds": 3}
    wrapped = SocketBounds(app, Settings(callers=limits))
    socket = Server(wrapped, caller="key a")
    for _ in range(3):
        socket.say({"type": "websocket.receive", "text": "x"})
    await eventually(lambda: len(socket.sent) == 4)
    wrapped.gates.rates.admit("key a")
    await socket.leave()


async def test_a_server_that_cannot_answer_closes_a_refused_socket():
    wrapped = bounds(max_app_sockets=1)
    first = Server(wrapped)
    await first.first()
    refused = Server(wrapped, address="192.0.2.9", denial=False)
    assert await refused.first() == {"type": "websocket.close", "code": 1008}
    await refused.task
    await first.leave()


async def test_a_quiet_socket_is_closed_and_a_busy_one_is_not():
    wrapped = bounds(socket_idle_seconds=0.6)
    quiet, busy = Server(wrapped), Server(wrapped)
    for _ in range(6):
        busy.say({"type": "websocket.receive", "text": "x"})
        await asyncio.sleep(0.2)
    assert [one["type"] for one in quiet.sent] == ["websocket.accept", "websocket.close"]
    assert quiet.sent[1]["code"] == 1000
    await quiet.task
    assert "websocket.close" not in [one["type"] for one in busy.sent]
    await busy.leave()


async def test_a_fault_of_the_app_stays_one():
    async def broken(scope, receive, send):
        await send({"type": "websocket.accept"})
        raise OSError("a file of the app")

    socket = Server(SocketBounds(broken, Settings()))
    with pytest.raises(OSError, match="a file"):
        await socket.task
