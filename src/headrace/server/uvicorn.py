"""uvicorn's server with headrace's start and end.

A refusal to start is one sentence on stderr, not a traceback. At the end the server drains, closes
its connections, and shuts the lifespan down, even if the drain failed.
"""

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Generator
from functools import partial
from typing import Any

import structlog
import uvicorn
from uvicorn.lifespan.on import LifespanOn
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from headrace.edge.gates import RequestGates
from headrace.edge.state import State, found_state
from headrace.errors import StartupRefusal
from headrace.health.service import HealthService
from headrace.observability.metrics import Metrics
from headrace.server.connections import Connections
from headrace.server.drain import Drain
from headrace.server.health_port import HealthPort
from headrace.server.listener import SharedListener
from headrace.server.protocol import BoundedProtocol
from headrace.server.socket_protocol import PatientSocket
from headrace.server.spread import ProcessPlace

_log = structlog.stdlib.get_logger("headrace.server")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
#: Ctrl-C reaches a process twice within this time: from the terminal and from the master. A later
#: signal means that the user wants the end now.
_SAME_SIGNAL_SECONDS = 1.0
#: A connection accepted just before the listeners closed may still bring its request.
_FRESH_CONNECTION_SECONDS = 0.25
_LOOK_SECONDS = 0.05


class ReportingLifespan(LifespanOn):
    """uvicorn's lifespan, but a refusal to start goes to ``on_refusal`` instead of the log."""

    def __init__(
        self, config: uvicorn.Config, *, on_refusal: Callable[[StartupRefusal], None]
    ) -> None:
        super().__init__(config)
        self._on_refusal = on_refusal

    async def send(self, message: Any) -> None:
        # Starlette sends this while it handles the exception.
        error = sys.exc_info()[1]
        if message["type"] == "lifespan.startup.failed" and isinstance(error, StartupRefusal):
            self._on_refusal(error)
            message = {"type": message["type"]}
        await super().send(message)


class Server(uvicorn.Server):
    """Serves until it is told to stop. Then it drains and closes within ``shutdown_seconds``.

    :param place: this process's among those that share the sockets; None: it shares none.
    :param on_shutdown: called with the loop time by which the process must be gone.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        shutdown_seconds: float,
        on_shutdown: Callable[[float], None],
        on_refusal: Callable[[StartupRefusal], None],
        connections: Connections,
        health_port: HealthPort | None = None,
        place: ProcessPlace | None = None,
    ) -> None:
        super().__init__(config)
        self._connections = connections
        self._health_port = health_port
        self._place = place
        self._shutdown_seconds = shutdown_seconds
        self._on_shutdown = on_shutdown
        self._told_at: float | None = None
        self._hurried = False
        config.load()
        config.lifespan_class = partial(  # only called
            ReportingLifespan, on_refusal=on_refusal
        )
        config.http_protocol_class = partial(  # type: ignore[assignment]  # only called
            BoundedProtocol, bounds=connections
        )
        if config.ws_protocol_class is WebSocketsSansIOProtocol:
            # Older releases of uvicorn choose another one.
            config.ws_protocol_class = PatientSocket

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Drain on TERM, INT and QUIT; afterwards ignore them, so that the exit code stays 0."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
                signal.signal(number, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin the drain. A later INT or QUIT cuts it; TERM does not, because gunicorn repeats
        TERM.
        """
        now = asyncio.get_running_loop().time()
        drain = self._drain()
        if self._told_at is None:
            self._told_at = now
            self.should_exit = True
            _log.info("stop_requested", signal=signal.Signals(sig).name)
            if drain is not None:
                drain.begin()
        elif sig != signal.SIGTERM and now - self._told_at > _SAME_SIGNAL_SECONDS:
            self._hurried = True
            if drain is not None:
                drain.hurry()

    def stop_if_unfit(self) -> None:
        """Drain and end if a vital task keeps failing, so that another process is started."""
        state = self._state()
        health = state.find(HealthService) if state is not None else None
        problem = health.task_problem if health is not None else None
        if problem and not self.should_exit:
            _log.error("process_unfit", why=problem)
            self.should_exit = True

    async def startup(self, sockets: Any = None) -> None:
        await self._start_listeners(sockets)
        state = self._state()
        if state is not None:
            self._count_connections(state)
            health = state.find(HealthService)
            if self._health_port is not None and health is not None:
                self._health_port.serve(health)
        drain = self._drain()
        if drain is not None:
            needed = drain.bound_seconds + drain.closing_seconds
            if needed > self._shutdown_seconds:
                _log.error(
                    "shutdown_does_not_fit",
                    needed_seconds=needed,
                    graceful_timeout_seconds=self._shutdown_seconds,
                )

    async def _start_listeners(self, sockets: Any) -> None:
        # During a TLS handshake a connection has no protocol that could bound it.
        if sockets is None or self._place is None or self.config.ssl is not None:
            await super().startup(sockets)
            return
        await super().startup([])
        if self.started:
            self.servers = [
                SharedListener(  # type: ignore[misc]  # uvicorn only closes it
                    one, self._protocol, self._place, self._connections
                )
                for one in sockets
            ]

    def _protocol(self) -> asyncio.Protocol:
        """Make the protocol of a new connection, as uvicorn's own listeners do."""
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    def _count_connections(self, state: State) -> None:
        if (metrics := state.find(Metrics)) is not None:
            self._connections.count_in(metrics)
        if (places := state.find(RequestGates)) is not None:
            most = self._connections.max_connections
            places.answers.total = most
            # Those of the user's app leave connections to the API.
            places.app_requests.total = max(1, most // 4)
            places.app_sockets.total = min(places.app_sockets.total, max(1, most // 2))

    async def shutdown(self, sockets: Any = None) -> None:
        clock = asyncio.get_running_loop().time
        ends_at = clock() + self._shutdown_seconds
        self._on_shutdown(ends_at)
        drain = self._drain()
        closing_seconds = drain.closing_seconds if drain is not None else 5.0
        if drain is not None:
            await self._finish(drain)
        await self._close_listeners()
        # Other requests, such as streams of the user's app, have the rest of the time.
        await self._requests_end(before=ends_at - closing_seconds)
        self.config.timeout_graceful_shutdown = 1
        try:
            async with asyncio.timeout_at(ends_at):
                await super().shutdown(sockets)
        except TimeoutError:
            _log.error("shutdown_cut", why="the lifespan did not end in time")

    async def _finish(self, drain: Drain) -> None:
        try:
            async with asyncio.timeout(drain.bound_seconds):
                await drain.drain(
                    close_listeners=self._stop_accepting,
                    open_connections=lambda: self._connections.open,
                )
        except TimeoutError:
            _log.error("drain_cut", bound_seconds=drain.bound_seconds)
        except Exception:
            # The lifespan must be shut down even if the drain failed.
            _log.exception("drain_failed")

    async def _requests_end(self, *, before: float) -> None:
        clock = asyncio.get_running_loop().time
        while (tasks := set(self.server_state.tasks)) and clock() < before and not self._hurried:
            await asyncio.wait(tasks, timeout=_LOOK_SECONDS)

    def _stop_accepting(self) -> None:
        """Take no more connections. From now on each answer ends its connection."""
        self._connections.ending = True
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedProtocol):
                connection.end_after_answer()

    async def _close_listeners(self) -> None:
        """Take no more connections and close idle ones. Answers under way are finished."""
        if any(server.is_serving() for server in self.servers):
            self._stop_accepting()
            await asyncio.sleep(_FRESH_CONNECTION_SECONDS)
        if self._health_port is not None:
            self._health_port.stop()
        for connection in list(self.server_state.connections):
            connection.shutdown()

    def _drain(self) -> Drain | None:
        state = self._state()
        return state.find(Drain) if state is not None else None

    def _state(self) -> State | None:
        """headrace's state, once the lifespan has started."""
        lifespan = getattr(self, "lifespan", None)
        return found_state(lifespan.state) if lifespan is not None else None
