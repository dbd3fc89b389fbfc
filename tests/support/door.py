"""One app for all tests that look at what the server makes of a request."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.support.apps import GRAPHS, app_client, settings_for

NAMES = (
    "plain",
    "needy",
    "model",
    "needy_model",
    "keys",
    "none",
    "outer",
    "made",
    "slow",
    "one",
    "two",
    "asks_below",
    "asks_and_waits",
    "asks_and_fails",
    "slow_and_asking",
    "branch_by_store",
    "branch_by_runtime",
)


class Door:
    """The API as a client sees it, in few words."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return await self.http.post(path, json={} if body is None else body, headers=headers)

    async def thread(self) -> str:
        made: str = (await self.post("/threads")).json()["thread_id"]
        return made

    async def wait(self, thread_id: str | None, graph: str, **body: Any) -> httpx.Response:
        path = "/runs/wait" if thread_id is None else f"/threads/{thread_id}/runs/wait"
        return await self.post(path, {"assistant_id": graph, **body})

    async def state(self, thread_id: str) -> Any:
        return (await self.http.get(f"/threads/{thread_id}/state")).json()

    async def get(self, thread_id: str) -> Any:
        return (await self.http.get(f"/threads/{thread_id}")).json()

    async def threads(self) -> int:
        counted: int = (await self.post("/threads/count")).json()
        return counted

    async def runs(self, thread_id: str) -> list[Any]:
        found: list[Any] = (await self.http.get(f"/threads/{thread_id}/runs?limit=100")).json()
        return found


@asynccontextmanager
async def open_door(database_url: str, folder: Path, **settings: Any) -> AsyncIterator[Door]:
    manifest = folder / "langgraph.json"
    graphs = {name: f"{GRAPHS / 'door.py'}:{name}" for name in NAMES}
    manifest.write_text(json.dumps({"graphs": graphs}))
    async with app_client(settings_for(database_url, manifest, **settings)) as http:
        yield Door(http)
