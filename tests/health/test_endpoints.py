"""The health endpoints as probers reach them: over HTTP, answered from memory."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from headrace.auth.api_keys import ApiKeys
from headrace.auth.identity import Identity
from headrace.edge.state import State
from headrace.edge.web_pages import Origins, WebPages
from headrace.health.checks import DatabaseProbe
from headrace.health.endpoints import router
from headrace.health.service import HealthService
from headrace.lifecycle import Supervision
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.settings import Settings
from tests.support.measured import board_with
from tests.support.probes import ToldDatabase, ToldSchema
from tests.support.waiting import eventually

PATHS = ("/livez", "/startupz", "/readyz", "/health", "/metrics")


@dataclass
class Served:
    """The endpoints on a port, and what the test changes behind them."""

    client: httpx.AsyncClient
    board: StatusBoard
    probe: DatabaseProbe
    database: ToldDatabase
    schema: ToldSchema = field(default_factory=ToldSchema)


@asynccontextmanager
async def listening(app: FastAPI) -> AsyncIterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None))
    task = asyncio.create_task(server.serve(), name="server")
    await eventually(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, object]]:
        health = HealthService(
            version="1.2.3",
            board=this.board,
            metrics=Metrics(this.board),
            database=this.probe,
            schema=this.schema,
            supervision=Supervision(),
        )
        pages = WebPages(Origins(), guarded=False, hosts=None)
        identity = Identity(ApiKeys([]))
        yield {"headrace": State(health, Settings(), identity, pages)}

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    async with httpx.AsyncClient() as client:
        database = ToldDatabase()
        probe = DatabaseProbe(database, interval_seconds=0.001)
        this = Served(client, board_with(), probe, database)
        async with listening(app) as url:
            client.base_url = httpx.URL(url)
            yield this
    await this.probe.stop()


async def test_nothing_asked_for_touches_the_database(served: Served) -> None:
    for path in PATHS * 5:
        assert (await served.client.get(path)).status_code == 200
    assert served.database.asked == 0


async def test_liveness_and_start_up_tell_who_answers(served: Served) -> None:
    livez = (await served.client.get("/livez")).json()
    startupz = (await served.client.get("/startupz")).json()
    assert livez == {"status": "alive", "pid": os.getpid()}
    assert startupz == {"status": "started", "pid": os.getpid()}


async def test_ready_is_a_word(served: Served) -> None:
    assert (await served.client.get("/readyz")).json() == {"status": "ready"}


async def test_unready_is_503_with_reasons(served: Served) -> None:
    served.board.set_state("draining")
    served.schema.told = "the schema is at 9001"
    answer = await served.client.get("/readyz")
    assert answer.status_code == 503
    reasons = [f"process {os.getpid()} is draining", "the schema is at 9001"]
    assert answer.json() == {"status": "unready", "reasons": reasons}
    report = await served.client.get("/health")
    assert report.status_code == 503
    assert report.json()["reasons"] == reasons


async def test_liveness_does_not_follow_readiness(served: Served) -> None:
    served.database.gone = True
    await served.probe.start()
    await eventually(lambda: served.probe.problem)
    assert (await served.client.get("/readyz")).status_code == 503
    for path in ("/livez", "/startupz", "/metrics"):
        assert (await served.client.get(path)).status_code == 200


async def test_metrics_are_text_that_prometheus_reads(served: Served) -> None:
    answer = await served.client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert 'headrace_processes{state="serving"} 1.0' in answer.text


@pytest.mark.parametrize("path", PATHS)
async def test_probes_need_no_body_and_no_headers(served: Served, path: str) -> None:
    url = served.client.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    assert b" 200 " in await reader.readline()
    writer.close()
    await writer.wait_closed()
