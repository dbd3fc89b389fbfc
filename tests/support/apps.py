"""The server's app in the test's own process: its lifespan run, its requests without sockets."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headrace.edge.state import State, state_of
from headrace.server.app import create_app
from headrace.settings import Settings

GRAPHS = Path(__file__).parent / "graphs"


def write_manifest(folder: Path, *, described: str | None = None, **content: Any) -> Path:
    """A manifest with the graphs of the tests, and what else it is to say.

    :param described: what it says of the graph ``with_runtime``.
    """
    path = folder / "langgraph.json"
    names = ("ctx", "made", "with_runtime", "workflow", "picky", "stuck", "typed")
    graphs: dict[str, Any] = {name: f"{GRAPHS / 'forms.py'}:{name}" for name in names}
    graphs["with_runtime"] = {"path": graphs["with_runtime"], "description": described}
    path.write_text(json.dumps({"graphs": graphs, **content}))
    return path


def settings_for(database_url: str, manifest: Path, **more: Any) -> Settings:
    return Settings.model_validate(
        {
            "config": manifest,
            "server": {"grace_seconds": 0},
            "database": {"url": SecretStr(database_url)},
            **more,
        }
    )


@asynccontextmanager
async def app_client(settings: Settings, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a started app; what its start raises comes out here."""
    async with started(create_app(settings)) as served, _client_of(served, **headers) as client:
        yield client


@asynccontextmanager
async def app_client_and_state(
    settings: Settings,
) -> AsyncIterator[tuple[httpx.AsyncClient, State]]:
    """A client of a started app, and the objects of the app."""
    app, state = create_app(settings), dict[str, Any]()
    async with _started(app, state), _client_of(_with_state(app, state)) as client:
        yield client, state_of(state)


@asynccontextmanager
async def _client_of(served: ASGIApp, **headers: str) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(served, raise_app_exceptions=False)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://server", headers=headers, timeout=20
    ) as client:
        yield client


@asynccontextmanager
async def started(app: ASGIApp) -> AsyncIterator[ASGIApp]:
    """The app with its lifespan run, as a server has it."""
    state: dict[str, Any] = {}
    async with _started(app, state):
        yield _with_state(app, state)


def _with_state(app: ASGIApp, state: dict[str, Any]) -> ASGIApp:
    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    return with_state


@asynccontextmanager
async def _started(app: ASGIApp, state: dict[str, Any]) -> AsyncIterator[None]:
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}

    async def run() -> None:
        await app(scope, to_app.get, from_app.put)

    running = asyncio.create_task(run())
    await to_app.put({"type": "lifespan.startup"})
    said = asyncio.create_task(from_app.get())
    await asyncio.wait({running, said}, return_when=asyncio.FIRST_COMPLETED)
    if not said.done() or said.result()["type"] != "lifespan.startup.complete":
        said.cancel()
        await running
        raise AssertionError("the app ended without a word")
    try:
        yield
    finally:
        await to_app.put({"type": "lifespan.shutdown"})
        await running
