"""The WebSocket of the protocol, against servers as users run them."""

import asyncio
import json
from typing import Any
from uuid import uuid4

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin

from tests.support.live import LiveServer, live_server

pytestmark = pytest.mark.acceptance

QUICK: dict[str, Any] = {"seconds": 0.0}


def address(server, thread_id: str | None = None) -> str:
    base = server.url.replace("http://", "ws://")
    return f"{base}/threads/{thread_id or uuid4()}/stream/events"


class Talk:
    """Sends commands, and keeps events and answers apart."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.events: list[dict[str, Any]] = []
        self._number = 0

    async def command(self, method: str, /, **params: Any) -> dict[str, Any]:
        self._number += 1
        body = {"id": self._number, "method": method, "params": params}
        await self.socket.send(json.dumps(body))
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        while True:
            told = await self._next()
            if told["type"] != "event":
                assert told["id"] in (self._number, None)
                return told
            self.events.append(told)

    async def until(self, status: str, count: int = 1) -> list[str]:
        """The methods of all events until there are so many with this status."""
        while [one["params"]["data"].get("event") for one in self.events].count(status) < count:
            self.events.append(await self._next())
        return [one["method"] for one in self.events]

    async def _next(self) -> dict[str, Any]:
        async with asyncio.timeout(15):
            told: dict[str, Any] = json.loads(await self.socket.recv())
            return told


async def test_commands_answers_and_events_share_a_connection(forms_server):
    async with connect(address(forms_server)) as socket:
        talk = Talk(socket)
        subscribed = await talk.command("subscription.subscribe", channels=["lifecycle", "values"])
        assert subscribed["result"]["replayed_events"] == 0
        started = await talk.command("run.start", assistant_id="slow", input=QUICK)
        assert started["type"] == "success"
        methods = await talk.until("completed")
        assert methods == ["lifecycle", *["values"] * 4, "lifecycle"]
        assert [one["seq"] for one in talk.events] == sorted(one["seq"] for one in talk.events)
        name = subscribed["result"]["subscription_id"]
        assert (await talk.command("subscription.unsubscribe", subscription_id=name))[
            "result"
        ] == {}
        again = await talk.command("subscription.unsubscribe", subscription_id=name)
        assert again["error"] == "no_such_subscription"


async def test_a_connection_ends_with_its_thread(forms_server):
    thread = str(uuid4())
    async with (
        connect(address(forms_server, thread)) as socket,
        httpx.AsyncClient(base_url=forms_server.url) as http,
    ):
        talk = Talk(socket)
        await talk.command("subscription.subscribe", channels=["lifecycle"])
        await talk.command("run.start", assistant_id="slow", input=QUICK)
        await talk.until("completed")
        assert (await http.delete(f"/threads/{thread}")).status_code == 204
        with pytest.raises(ConnectionClosed) as closed:
            await talk.answer()
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (1000, "The thread was deleted.")


async def test_a_subscription_that_is_ended_at_once_leaves_the_connection_as_it_was(forms_server):
    async with connect(address(forms_server)) as socket:
        talk = Talk(socket)
        for _ in range(3):
            made = await talk.command("subscription.subscribe", channels=["lifecycle"])
            name = made["result"]["subscription_id"]
            await talk.command("subscription.unsubscribe", subscription_id=name)
            await asyncio.sleep(0.1)
        await talk.command("subscription.subscribe", channels=["lifecycle"])
        await talk.command("run.start", assistant_id="slow", input=QUICK)
        assert await talk.until("completed") == ["lifecycle", "lifecycle"]
    assert "ValueError" not in forms_server.log()


async def test_a_later_subscription_is_told_what_it_has_not_seen(forms_server):
    thread_id = str(uuid4())
    async with connect(address(forms_server, thread_id)) as socket:
        talk = Talk(socket)
        await talk.command("subscription.subscribe", channels=["lifecycle", "values"])
        await talk.command("run.start", assistant_id="slow", input=QUICK)
        await talk.until("completed")
        first = talk.events
    async with connect(address(forms_server, thread_id)) as socket:
        talk = Talk(socket)
        channels = ["lifecycle", "values"]
        await talk.command("subscription.subscribe", channels=channels, since=first[2]["seq"])
        await talk.until("completed")
        assert [one["seq"] for one in talk.events] == [one["seq"] for one in first[3:]]


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("{", "invalid_argument", "Invalid JSON"),
        ("[]", "invalid_argument", "Protocol commands must include an integer id"),
        ('{"id": 1, "method": "nope"}', "unknown_command", "Unknown protocol command: nope"),
        (
            '{"id": 1, "method": "subscription.subscribe"}',
            "invalid_argument",
            "channels is required",
        ),
        ('{"id": 1, "method": "run.start"}', "invalid_argument", "requires an assistant_id"),
        ('{"id": 1, "method": "nope", "params": {"a": "\\u0000"}}', "invalid_argument", "NUL"),
    ],
)
async def test_a_wrong_command_is_answered_and_the_connection_stays(
    forms_server, text, code, message
):
    async with connect(address(forms_server)) as socket:
        talk = Talk(socket)
        await socket.send(text)
        told = json.loads(await socket.recv())
        assert (told["type"], told["error"]) == ("error", code)
        assert message in told["message"]
        assert (await talk.command("agent.getTree"))["error"] == "no_such_run"


@pytest.mark.parametrize(
    "text",
    [
        '{"id": 7, "method": "run.start", "params": {"input": "\\u0000"}}',
        '{"id": 7, "method": "run.start", "params": {"input": ' + "[" * 200 + "]" * 200 + "}}",
        '{"id":7,"method":"run.start","params":[]}',
    ],
    ids=["nul", "deep", "params"],
)
async def test_a_refusal_names_the_command_that_waits_for_it(forms_server, text):
    async with connect(address(forms_server)) as socket:
        await socket.send(text)
        told = json.loads(await socket.recv())
    assert (told["type"], told["id"], told["error"]) == ("error", 7, "invalid_argument")


async def test_bytes_are_no_commands(forms_server):
    async with connect(address(forms_server)) as socket:
        await socket.send(b"{}")
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1003


async def test_a_connection_has_so_many_subscriptions(forms_server):
    async with connect(address(forms_server)) as socket:
        talk = Talk(socket)
        for _ in range(32):
            told = await talk.command("subscription.subscribe", channels=["values"])
            assert told["type"] == "success"
        told = await talk.command("subscription.subscribe", channels=["values"])
        assert told["error"] == "invalid_argument"
        assert "at most 32 subscriptions" in told["message"]


async def test_pages_of_other_machines_may_not_connect(forms_server):
    for origin in ("https://evil.example", "null"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(forms_server), origin=Origin(origin))
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"")["code"] == "page_refused"
    for origin in ("http://localhost:3000", forms_server.url):
        async with connect(address(forms_server), origin=Origin(origin)) as socket:
            assert (await Talk(socket).command("agent.getTree"))["error"] == "no_such_run"


KEY = {"x-api-key": "the-key-of-this-test"}


class KeyedServer(LiveServer):
    """Asked with a key."""

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.url + path, headers=KEY, timeout=5.0)


@pytest.fixture(scope="module")
def closed_server(module_database, tmp_path_factory):
    with live_server(
        tmp_path_factory.mktemp("closed"),
        module_database,
        kind=KeyedServer,
        processes=1,
        HEADRACE_API_KEYS=f"{KEY['x-api-key']},the-key-of-another",
        HEADRACE_EVENTS__MAX_THREAD_STREAMS="4",
    ) as server:
        yield server


async def test_a_key_admits(closed_server):
    for headers in ({}, {"x-api-key": "wrong"}):
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(closed_server), additional_headers=headers)
        assert refused.value.response.status_code == 401
        assert json.loads(refused.value.response.body or b"")["code"] == "unauthenticated"
    assert "socket_refused" in closed_server.log()
    told = [one for one in closed_server.log().splitlines() if "completing handshake" in one]
    assert [one for one in told if '"level":"error"' in one] == []
    async with connect(address(closed_server), additional_headers=KEY) as socket:
        assert (await Talk(socket).command("agent.getTree"))["error"] == "no_such_run"


async def test_a_connection_is_one_of_the_callers_streams(closed_server):
    held = [await connect(address(closed_server), additional_headers=KEY) for _ in range(3)]
    try:
        with pytest.raises(InvalidStatus) as refused:
            await connect(address(closed_server), additional_headers=KEY)
        assert refused.value.response.status_code == 429
        assert json.loads(refused.value.response.body or b"")["code"] == "caller_share_used"
    finally:
        for socket in held:
            await socket.close()
    async with asyncio.timeout(10):
        while True:
            try:
                async with connect(address(closed_server), additional_headers=KEY):
                    return
            except InvalidStatus:
                await asyncio.sleep(0.05)
