"""Responses that last: completed, or broken off where the client is to go on elsewhere."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from headrace.edge.live import LiveResponse
from headrace.events.reader import Released
from headrace.lifecycle import Tasks
from tests.support.processes import free_port
from tests.support.waiting import eventually


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    async def chunks() -> AsyncGenerator[bytes, None]:
        yield b"\n"
        if scope["path"] == "/released":
            raise Released
        yield b"{}"

    await LiveResponse(
        chunks(),
        media_type="application/json",
        headers={"Location": "/elsewhere"},
        on_disconnect=lambda: None,
    )(scope, receive, send)


@pytest.fixture
async def client():
    port, tasks = free_port(), Tasks()
    config: Any = uvicorn.Config(app, port=port, lifespan="off", log_config=None)
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
