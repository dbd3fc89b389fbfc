"""Notices between processes: the queue, a run or a cron has changed.

A notice says only where to look. The tables are the truth, and all listeners also poll.
:class:`Notifier` is the interface. :class:`PostgresNotifier` sends notices with NOTIFY in
transactions of their own, and receives them on one LISTEN connection.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID

import psycopg
import structlog

from headrace.db.faults import driver_reason, translated_faults
from headrace.db.pool import Connection, SharedPool
from headrace.lifecycle import Supervision, Tasks
from headrace.unavailable_errors import Unavailable

_log = structlog.stdlib.get_logger("headrace.notices")

_CHANNEL = "headrace"
#: Each schema has its own channel. Postgres allows channel names of up to so many bytes.
_CHANNEL_LENGTH = 63
#: In this time a process sends at most one NOTIFY, because Postgres serializes the commits of all
#: transactions with a NOTIFY.
_PAUSE_SECONDS = 0.02
#: A NOTIFY carries up to 8000 bytes. A line has up to 39, with its newline.
_LINES_PER_NOTICE = 200
#: While the database is away, so many notices wait. More are dropped: listeners also poll.
_MAX_WAITING = 10_000
_RECONNECT_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)
#: If no notice has come for so long, the listener checks whether the server still answers.
_QUIET_SECONDS = 15.0
_ANSWER_SECONDS = 5.0

_QUEUE = "q"
_CRONS = "c"


class Listeners:
    """The functions to call for notices. ``on_any`` is called when notices may have been missed."""

    def __init__(self) -> None:
        self._on_queue: list[Callable[[], None]] = []
        self._on_crons: list[Callable[[], None]] = []
        self._on_run: list[Callable[[UUID], None]] = []
        self._on_any: list[Callable[[], None]] = []

    def add(
        self,
        *,
        on_queue: Callable[[], None] | None = None,
        on_crons: Callable[[], None] | None = None,
        on_run: Callable[[UUID], None] | None = None,
        on_any: Callable[[], None] | None = None,
    ) -> None:
        """Call these functions from now on. They must be quick and must not raise."""
        if on_queue is not None:
            self._on_queue.append(on_queue)
        if on_crons is not None:
            self._on_crons.append(on_crons)
        if on_run is not None:
            self._on_run.append(on_run)
        if on_any is not None:
            self._on_any.append(on_any)

    def heard(self, payload: str) -> None:
        """Call the listeners of a received notice. Unknown lines come from a newer release."""
        for line in payload.splitlines():
            if line == _QUEUE:
                for on_queue in self._on_queue:
                    on_queue()
            elif line == _CRONS:
                for on_crons in self._on_crons:
                    on_crons()
            elif line.startswith("r "):
                try:
                    run_id = UUID(line[2:])
                except ValueError:
                    continue
                for on_run in self._on_run:
                    on_run(run_id)

    def missed(self) -> None:
        for listener in (*self._on_any, *self._on_queue, *self._on_crons):
            listener()


class Notifier(Protocol):
    """Sends notices to all processes, also this one. A lost notice is harmless: listeners poll."""

    listeners: Listeners

    @property
    def connected(self) -> bool:
        """Whether this process receives notices."""

    def queue_changed(self) -> None:
        """Send: there is a run to claim."""

    def crons_changed(self) -> None:
        """Send: a cron has a new slot."""

    def run_changed(self, run_id: UUID) -> None:
        """Send: a run has new events, has ended, is watched, or must stop."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class PollingNotifier:
    """Sends nothing. For a transaction pooler, which supports no LISTEN, or if notices are off."""

    def __init__(self) -> None:
        self.listeners = Listeners()

    @property
    def connected(self) -> bool:
        return False

    def queue_changed(self) -> None:
        pass

    def crons_changed(self) -> None:
        pass

    def run_changed(self, run_id: UUID) -> None:
        pass

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass


class PostgresNotifier:
    """Sends and receives notices with NOTIFY and LISTEN.

    :param count: called with ``sent`` or ``received`` for each notice.
    """

    def __init__(
        self,
        pool: SharedPool,
        *,
        supervision: Supervision | None = None,
        count: Callable[[str], None] = lambda direction: None,
    ) -> None:
        self._pool = pool
        self._channel = f"{_CHANNEL}:{pool.schema}" if pool.schema else _CHANNEL
        self._channel = self._channel[:_CHANNEL_LENGTH]
        quoted = f'"{self._channel}"' if pool.schema else self._channel
        self._listening = f"LISTEN {quoted}".encode()
        self._count = count
        self._tasks = Tasks(supervision)
        self.listeners = Listeners()
        self._lines: dict[str, None] = {}
        self._waiting = asyncio.Event()
        self._connected = False

    @property
    def connected(self) -> bool:
        return self._connected

    def queue_changed(self) -> None:
        self._tell(_QUEUE)

    def crons_changed(self) -> None:
        self._tell(_CRONS)

    def run_changed(self, run_id: UUID) -> None:
        self._tell(f"r {run_id}")

    async def start(self) -> None:
        self._tasks.keep(self._listen, name="notices-listen")
        self._tasks.keep(self._send, name="notices-send")

    async def stop(self) -> None:
        await self._tasks.stop()

    def _tell(self, line: str) -> None:
        if len(self._lines) < _MAX_WAITING:
            self._lines[line] = None
            self._waiting.set()

    def _take(self) -> list[str]:
        """The lines of the next notice.

        They are gone from here before they are sent: a line that is told meanwhile is news.
        """
        lines = list(self._lines)[:_LINES_PER_NOTICE]
        for line in lines:
            del self._lines[line]
        if not self._lines:
            self._waiting.clear()
        return lines

    async def _send(self) -> None:
        while True:
            await self._waiting.wait()
            lines: list[str] = []
            try:
                with translated_faults():
                    async with self._pool.connection() as connection:
                        lines = self._take()
                        await connection.execute(
                            "SELECT pg_notify(%s, %s)", (self._channel, "\n".join(lines))
                        )
            except Unavailable:
                # A lost notice is harmless: listeners poll. Queued notices go out when the
                # connection is back.
                for line in lines:
                    self._tell(line)
                await asyncio.sleep(_RECONNECT_SECONDS[-1])
                continue
            self._count("sent")
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _listen(self) -> None:
        failures = 0
        while True:
            try:
                async with await self._pool.login.connect(
                    psycopg.AsyncConnection.connect, autocommit=True, prepare_threshold=None
                ) as connection:
                    async with asyncio.timeout(_ANSWER_SECONDS):
                        await connection.execute(self._listening)
                    self._connected, failures = True, 0
                    _log.info("notices_connected")
                    self.listeners.missed()
                    await self._hear(connection)
            except (psycopg.Error, OSError) as error:
                if self._connected or failures == 0:
                    _log.warning("notices_lost", error=driver_reason(error))
                self._connected = False
                await asyncio.sleep(_RECONNECT_SECONDS[min(failures, len(_RECONNECT_SECONDS) - 1)])
                failures += 1
            finally:
                self._connected = False

    async def _hear(self, connection: Connection | psycopg.AsyncConnection[Any]) -> None:
        """Receive notices for ever.

        :raises psycopg.OperationalError, TimeoutError: the connection is lost.
        """
        while True:
            async for notice in connection.notifies(timeout=_QUIET_SECONDS):
                self._count("received")
                self.listeners.heard(notice.payload)
            async with asyncio.timeout(_ANSWER_SECONDS):
                await connection.execute("SELECT 1")
