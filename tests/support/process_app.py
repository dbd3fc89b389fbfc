"""A small real application for tests of the server process: streams, drain, health, metrics.

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
from fastapi.responses import JSONResponse, Response, StreamingResponse

from headrace.edge.state import State, state_of
from headrace.errors import StartupRefusal
from headrace.health.checks import DatabaseCheck, DatabaseProbe
from headrace.health.endpoints import router
from headrace.health.pulse import Measured, Pulse
from headrace.health.service import HealthService
from headrace.lifecycle import Restarts, Supervision
from headrace.observability.metrics import Metrics
from headrace.observability.slots import StatusBoard
from headrace.server.drain import Drain
from headrace.settings import Settings, multiprocess_dir
from headrace.worker.worker import Worker
from tests.support.probes import ToldSchema

#: Whether this process has met the fault.
_met = False


class StreamWorker(Worker):
    """Its runs are streams that tick until their time is over or the grace is."""

    def __init__(self) -> None:
        self.refusing = False
        self._streams = 0
        self._cut = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def refuse_new(self) -> None:
        self.refusing = True

    async def finish(self, grace_seconds: float) -> None:
        try:
            async with asyncio.timeout(grace_seconds):
                await self._idle.wait()
        except TimeoutError:
            self._cut.set()
            await self._idle.wait()

    async def stream(self, seconds: float) -> AsyncIterator[bytes]:
        self._streams += 1
        self._idle.clear()
        ends_at = time.monotonic() + seconds
        try:
            yield f"event: metadata\ndata: {os.getpid()}\n\n".encode()
            while time.monotonic() < ends_at:
                try:
                    async with asyncio.timeout(0.1):
                        await self._cut.wait()
                except TimeoutError:
                    yield b": tick\n\n"
                    continue
                yield b"event: error\ndata: {}\n\n"
                journal("run error")
                return
            yield b"event: end\ndata: {}\n\n"
            journal("run success")
        finally:
            self._streams -= 1
            if self._streams == 0:
                # The last byte leaves when the response has taken it.
                asyncio.get_running_loop().call_later(0.05, self._settle)

    def _settle(self) -> None:
        if self._streams == 0:
            self._idle.set()


def journal(line: str) -> None:
    path = os.environ.get("APP_JOURNAL")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {line}\n")


class PortCheck(DatabaseCheck):
    """The database is a port; without one it is always there.

    A file is a fault that no restart cures; one process takes it away.
    """

    def __init__(self) -> None:
        """It has no pool."""

    async def ask(self) -> None:
        if fault := os.environ.get("APP_FAULT"):
            await _meet(fault)
        port = os.environ.get("APP_DATABASE_PORT")
        if port:
            _, writer = await asyncio.open_connection("127.0.0.1", int(port))
            writer.close()


async def _meet(fault: str) -> None:
    global _met
    if not _met and os.path.exists(fault):  # noqa: ASYNC240 - a local file
        os.unlink(fault)
        _met = True
    if _met:
        raise ZeroDivisionError


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[dict[str, State]]:
    if os.path.exists(os.environ.get("APP_REFUSE", "")):  # noqa: ASYNC240 - before anything runs
        raise StartupRefusal("HR999", where="the test", what="asked to refuse", remedy="Ask less.")
    settings = Settings()
    board = StatusBoard(settings.runtime_dir, stale_seconds=settings.server.slot_stale_seconds)
    metrics = Metrics(
        board, multiprocess_dir=multiprocess_dir(), cache_seconds=settings.metrics.cache_seconds
    )
    worker = StreamWorker()
    pulse = Pulse(board, metrics, Measured())
    restarts = Restarts(first_pause_seconds=0.01, most=3)
    supervision = Supervision(metrics.record_fault, restarts=restarts)
    probe = DatabaseProbe(PortCheck(), supervision=supervision)
    health = HealthService(
        version="0",
        board=board,
        metrics=metrics,
        database=probe,
        schema=ToldSchema(),
        supervision=supervision,
    )
    await pulse.start()
    await probe.start()
    drain = Drain(settings.server, board=board, worker=worker)
    board.set_state("serving")
    journal("up")
    yield {"headrace": State(drain, health, metrics, worker)}
    await asyncio.sleep(float(os.environ.get("APP_SLOW_SHUTDOWN", "0")))
    await probe.stop()
    await pulse.stop()
    journal("down")


def create_app() -> FastAPI:
    app = FastAPI(lifespan=lifespan)
    app.include_router(router)

    @app.get("/stream")
    async def stream(request: Request, seconds: float) -> Response:
        worker = state_of(request).get(StreamWorker)
        if worker.refusing:
            return JSONResponse({"detail": "draining"}, 503, headers={"Retry-After": "1"})
        return StreamingResponse(worker.stream(seconds), media_type="text/event-stream")

    @app.get("/pid")
    async def pid(request: Request) -> int:
        state_of(request).get(Metrics).observe_http("GET", "/pid", 200, 0.001)
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

    return app
