"""Responses that last: completed, or broken off where the client is to go on elsewhere."""

import asyncio
import gc
import weakref
from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from headrace.edge.middleware import Middleware
from headrace.edge.streaming import StreamResponse
from headrace.events.reader import FollowingStopped
from headrace.lifecycle import Tasks
from headrace.server.connections import Connections, Limits
from headrace.server.protocol import BoundedProtocol
from headrace.setting_groups import ServerSettings
from tests.support.processes import free_port
from tests.support.waiting import eventually


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"\n"
        if scope["path"] == "/released":
            raise FollowingStopped
        yield b"{}"

    await StreamResponse(
        chunks(),
        media_type="application/json",
        headers={"Location": "/elsewhere"},
        on_disconnect=lambda: None,
    )(scope, receive, send)


@pytest.fixture(params=["inline", "in the middleware"])
def served(request):
    return app if request.param == "inline" else Middleware(app, plain_inside=True)


@pytest.fixture
async def client(served):
    port, tasks = free_port(), Tasks()
    config: Any = uvicorn.Config(served, port=port, lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    serving = tasks.start(server.serve(), name="uvicorn")
    await eventually(lambda: server.started)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as made:
        yield made
    server.should_exit = True
    async with asyncio.timeout(10):
        await serving


async def test_a_body_is_completed(client):
    response = await client.get("/")
    assert response.json() == {}


async def test_a_wait_that_is_let_go_breaks_off_so_that_the_client_follows_its_location(client):
    async with client.stream("GET", "/released") as response:
        assert response.headers["location"] == "/elsewhere"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            await response.aread()


class Parting:
    """A stream whose request must not outlive the making of it, and whose client leaves."""

    def __init__(self) -> None:
        self.left = 0
        self.closed = False
        self.request: Any = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        self.request = weakref.ref(request)
        await StreamResponse(
            self._chunks(), media_type="text/plain", headers={}, on_disconnect=self._leave
        )(scope, receive, send)

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        try:
            yield b"a"
            await asyncio.sleep(60)
        finally:
            self.closed = True

    def _leave(self) -> None:
        self.left += 1


@pytest.mark.parametrize(("plain", "own"), [(False, False), (True, False), (True, True)])
async def test_who_hangs_up_is_noticed_and_what_made_the_stream_is_gone_before(plain, own):
    """
    :param own: on headrace's server, whose connections say that their clients have left.
    """
    parting = Parting()
    port, tasks = free_port(), Tasks()
    wrapped = Middleware(parting, plain_inside=plain)
    config: Any = uvicorn.Config(wrapped, port=port, lifespan="off", log_config=None)
    if own:
        config.load()
        bounds = Connections(Limits.of(ServerSettings()), max_connections=10)
        config.http_protocol_class = partial(BoundedProtocol, bounds=bounds)
    server = uvicorn.Server(config)
    serving = tasks.start(server.serve(), name="uvicorn")
    await eventually(lambda: server.started)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        async with client.stream("GET", "/") as response:
            assert await anext(response.aiter_raw()) == b"a"
            gc.collect()
            assert (parting.request() is None) is plain
            assert parting.left == 0
            watching = [task for task in asyncio.all_tasks() if "_left" in repr(task.get_coro())]
            assert len(watching) == (0 if own else 1)
        await eventually(lambda: parting.closed)
    assert parting.left == 1
    server.should_exit = True
    async with asyncio.timeout(10):
        await serving
