"""The port of health and metrics: a thread answers there, with an event loop of its own.

Probes and scrapers get their answer even while the process has as many connections as it may have,
or while a graph blocks its event loop. All processes of the pod accept on one socket, and each of
them answers for the whole pod: from status slots, from metric files, and from what the background
checks found last.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import structlog
import uvicorn
from uvicorn.server import ServerState

from headrace.events.json_encoding import encode_json
from headrace.health.service import HealthService
from headrace.observability.metrics import METRICS_MEDIA_TYPE
from headrace.server.connections import Connections, Limits
from headrace.server.protocol import BoundedProtocol

_log = structlog.stdlib.get_logger("headrace.health_port")

#: Probes and scrapers are few, and send no bodies.
_LIMITS = Limits(
    max_request_line_bytes=2048,
    max_header_bytes=16 * 1024,
    max_headers=64,
    header_timeout_seconds=5.0,
    body_timeout_seconds=5.0,
    unread_timeout_seconds=10.0,
)
MAX_CONNECTIONS = 24
_KEEPALIVE_SECONDS = 20
#: How long answers under way may take at the end.
_CLOSING_SECONDS = 1.0

_JSON = "application/json"
_Answer = tuple[int, bytes, str]


class HealthPort:
    """Answers from ``start`` to ``stop``. Before ``serve`` it says that the process is starting."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self._health: HealthService | None = None
        self._config = uvicorn.Config(
            self._app,
            interface="asgi3",
            proxy_headers=False,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=_KEEPALIVE_SECONDS,
        )
        self._config.load()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="headrace-health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def serve(self, health: HealthService) -> None:
        """The process has started. From now on the port of the API serves no metrics."""
        health.metrics_elsewhere = True
        self._health = health

    def stop(self) -> None:
        """Take no more connections, so that other processes of the pod get them, and end. Does not
        wait.
        """
        if self._loop is not None and self._stopping is not None:
            # The loop may have ended by itself.
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._stopping.set)

    def _run(self) -> None:
        try:
            # uvloop, as on the port of the API: it survives a burst beyond the limit of
            # descriptors.
            with asyncio.Runner(loop_factory=self._config.get_loop_factory()) as runner:
                runner.run(self._answer())
        except Exception:
            _log.exception("health_port_failed")

    async def _answer(self) -> None:
        self._stopping, self._loop = asyncio.Event(), asyncio.get_running_loop()
        state = ServerState()
        bounds = Connections(_LIMITS, max_connections=MAX_CONNECTIONS)
        protocol = partial(
            BoundedProtocol, bounds=bounds, config=self._config, server_state=state, app_state={}
        )
        server = await self._loop.create_server(
            partial(protocol, _loop=self._loop), sock=self._listener
        )
        looking = self._loop.create_task(bounds.look_after(), name="health-connections")
        try:
            await self._stopping.wait()
            server.close()
            for connection in list(state.connections):
                connection.shutdown()
            if state.tasks:
                await asyncio.wait(set(state.tasks), timeout=_CLOSING_SECONDS)
        finally:
            looking.cancel()

    async def _app(self, scope: Any, _receive: Any, send: Callable[[Any], Awaitable[None]]) -> None:
        status, body, media_type = await self._answer_to(scope)
        headers = [
            (b"content-type", media_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        if scope["method"] == "HEAD":
            body = b""
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _answer_to(self, scope: Any) -> _Answer:
        answers = {
            "/livez": self._livez,
            "/startupz": self._startupz,
            "/readyz": self._readyz,
            "/health": self._report,
        }
        path = scope["path"]
        if scope["method"] not in ("GET", "HEAD"):
            return _json(
                405,
                {"detail": "This port answers only GET requests.", "code": "method_not_allowed"},
            )
        if path == "/metrics":
            return await self._metrics(scope["query_string"])
        if path in answers:
            return answers[path]()
        known = ", ".join([*answers, "/metrics"])
        return _json(404, {"detail": f"This port answers {known}.", "code": "not_found"})

    def _livez(self) -> _Answer:
        """200 while an event loop of the pod runs, or while this process is still starting."""
        health = self._health
        if health is None:
            return _json(200, {"status": "starting"})
        if silent := health.silent():
            return _json(503, {"status": "silent", "pids": silent})
        return _json(200, {"status": "alive", "pid": health.pid})

    def _startupz(self) -> _Answer:
        if self._health is None:
            return _STARTING
        return _json(200, {"status": "started", "pid": self._health.pid})

    def _readyz(self) -> _Answer:
        if self._health is None:
            return _STARTING
        if reasons := self._health.unready_reasons():
            return _json(503, {"status": "unready", "reasons": reasons})
        return _json(200, {"status": "ready"})

    def _report(self) -> _Answer:
        if self._health is None:
            return _STARTING
        status, body = self._health.written_report()
        return status, body, _JSON

    async def _metrics(self, query: bytes) -> _Answer:
        if self._health is None:
            return _STARTING
        written = await self._health.metrics()
        if query == b"format=json":
            return _json(200, written.report)
        return 200, written.text, METRICS_MEDIA_TYPE


def _json(status: int, value: Any) -> _Answer:
    return status, encode_json(value), _JSON


_STARTING = _json(503, {"status": "starting", "reasons": ["this process is starting"]})
