"""An app around the real engine, for tests of the server process: it can also do what harms one.

What it does is told by ``APP_*`` variables; what happened to it is appended to ``APP_JOURNAL``.
"""

import asyncio
import os
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import Response, StreamingResponse

import headrace
from headrace.edge.state import State
from headrace.errors import StartupRefusal
from headrace.health.service import HealthService
from headrace.observability.metrics import Metrics
from tests.support.graphs.graphs import make_slow


def journal(line: str) -> None:
    path = os.environ.get("APP_JOURNAL")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {line}\n")


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    if os.path.exists(os.environ.get("APP_REFUSE", "")):  # noqa: ASYNC240 - before anything runs
        raise StartupRefusal("HR999", where="the test", what="asked to refuse", remedy="Ask less.")
    async with headrace.lifespan(graphs={"slow": make_slow()})(app) as state:
        journal("up")
        yield state
        await asyncio.sleep(float(os.environ.get("APP_SLOW_SHUTDOWN", "0")))
    journal("down")


async def ticks(seconds: float) -> AsyncIterator[bytes]:
    """A stream of the user's own, which is no run."""
    ends_at = time.monotonic() + seconds
    while time.monotonic() < ends_at:
        yield b": tick\n\n"
        await asyncio.sleep(0.1)
    yield b"event: end\ndata: {}\n\n"


def create_app() -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.include_router(headrace.router)

    @app.get("/ticks")
    async def stream(seconds: float) -> Response:
        return StreamingResponse(ticks(seconds), media_type="text/event-stream")

    @app.get("/pid")
    async def pid(request: Request) -> int:
        request.state.headrace.get(Metrics).http.observe_request("GET", "/pid", 200, 0.001)
        return os.getpid()

    @app.get("/block")
    async def block_the_loop(seconds: float) -> int:
        time.sleep(seconds)  # noqa: ASYNC251 - that is the point
        return os.getpid()

    @app.post("/body")
    async def body(request: Request) -> dict[str, Any]:
        return {"bytes": len(await request.body()), "headers": sorted(request.headers)}

    @app.get("/large")
    async def large(megabytes: int) -> Response:
        return Response(b"x" * (megabytes * 1024 * 1024))

    @app.get("/thread")
    async def leave_a_thread(seconds: float) -> int:
        threading.Thread(target=time.sleep, args=(seconds,)).start()
        return os.getpid()

    @app.get("/fault")
    async def lose_a_vital_task(request: Request) -> int:
        """A background task of this process ends again and again, whatever restarts it."""
        state: State = request.state.headrace
        supervision = state.get(HealthService)._database._tasks._supervision
        for _ in range(8):
            supervision.ended("vital", ZeroDivisionError(), lived_seconds=0, vital=True)
        return os.getpid()

    return app
